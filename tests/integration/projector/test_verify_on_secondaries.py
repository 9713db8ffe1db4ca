"""Verify may read from a secondary that lags: what is settled is never taken for drift."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import psycopg
from pydantic import SecretStr
from pymongo.collection import Collection

from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.drift import Drift
from projector.position import ClaimPosition
from projector.projections.registry import PROJECTIONS
from projector.relay import Relay
from projector.settings import ProjectorSettings
from projector.verify import compare
from shared.mongo import Document, create_client, read_model_database
from tests.fixtures.relays import drain
from tests.fixtures.replica_sets import Member, ThreeMemberSet
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import Commands


def looks_in_progress(member: Member, database: str) -> list[Document]:
    look = {"command.find": "users_read", "command.$db": database, "active": True}
    return list(member.client.admin.aggregate([{"$currentOp": {"allUsers": True}}, {"$match": look}]))


def test_a_difference_is_looked_at_again_once_the_secondary_has_caught_up(
    three_member_set: ThreeMemberSet, settings: ProjectorSettings, commands: Commands, database_url: str
) -> None:
    lagging = three_member_set.secondaries[0]
    writing = settings.model_copy(update={"mongo_url": SecretStr(three_member_set.uri)})
    reading = settings.model_copy(update={"mongo_url": SecretStr(three_member_set.uri_reading_from(lagging))})
    with (
        create_client(writing, "test") as writer,
        create_client(reading, "test") as reader,
        psycopg.connect(database_url, autocommit=True) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        database = read_model_database(writer, writing)
        open_connection = partial(open_relay_connection, writing, "test relay", database)
        users = read_model_database(reader, reading)["users_read"]
        with closing(Relay(writing, open_connection, Delivery.of(writing, database), ClaimPosition())) as relay:
            user_id = commands.create_user()
            drain(relay)
            wait_until(lambda: users.find_one({"_id": user_id}), "the secondary has the user")
            with three_member_set.hold_replication(lagging):
                commands.rename("user", user_id, "Ada L.")
                drain(relay)
                verifying = pool.submit(found, connection, users)
                wait_until(lambda: looks_in_progress(lagging, settings.mongo_database), "the second look waits there")
                assert not verifying.done()
            assert verifying.result(60) == []
        writer.drop_database(settings.mongo_database)


def found(connection: psycopg.Connection, users: Collection[Document]) -> list[Drift]:
    return list(compare(connection, users, PROJECTIONS["user"]))
