"""Reads may scale to secondaries without losing read-your-writes: a token is honoured on a member that lags."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import httpx
import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.relay import Relay
from projector.retry import TRANSIENT
from projector.settings import ProjectorSettings
from shared.mongo import Document, read_model_database
from tests.fixtures.replica_sets import Member, ThreeMemberSet
from tests.fixtures.waiting import wait_until

TOKEN = "Consistency-Token"


@pytest.fixture
def relay_to_three(three_member_set: ThreeMemberSet, settings: ProjectorSettings) -> Iterator[Relay]:
    """A relay whose read models are on the set of three."""
    changed = settings.model_copy(update={"mongo_url": SecretStr(three_member_set.uri)})
    with MongoClient[Document](three_member_set.uri, retryWrites=False) as client:
        database = read_model_database(client, changed)
        connection = partial(open_relay_connection, changed, "test relay", database)
        relay = Relay(changed, connection, Delivery.of(changed, database), ClaimPosition())
        yield relay
        relay.close()
        client.drop_database(changed.mongo_database)


def finds_in_progress(member: Member) -> list[Document]:
    pipeline = [{"$currentOp": {"allUsers": True}}, {"$match": {"command.find": "users_read", "active": True}}]
    return list(member.client.admin.aggregate(pipeline))


def test_a_token_read_from_a_lagging_secondary_waits_and_one_without_is_stale(
    three_member_set: ThreeMemberSet, relay_to_three: Relay, make_api: Callable[..., httpx.Client]
) -> None:
    lagging = three_member_set.secondaries[0]
    writer = make_api(mongo_url=SecretStr(three_member_set.uri))
    reader = make_api(mongo_url=SecretStr(three_member_set.uri_reading_from(lagging)), read_timeout_seconds=30)
    asynchronously = {"Prefer": "respond-async"}
    created = writer.post("/users", json={"name": "old", "email": "ada@example.org"}, headers=asynchronously)
    settle(relay_to_three)
    assert reader.get("/users/1", headers={TOKEN: created.headers[TOKEN]}).json()["name"] == "old"

    with ThreadPoolExecutor(1) as pool:
        with three_member_set.hold_replication(lagging):
            updated = writer.put("/users/1", json={"name": "new"}, headers=asynchronously)
            settle(relay_to_three)
            assert reader.get("/users/1").json()["name"] == "old"
            reading = pool.submit(reader.get, "/users/1", headers={TOKEN: updated.headers[TOKEN]})
            wait_until(
                lambda: reading.done() or finds_in_progress(lagging),
                "the read has reached the secondary and waits there, or is answered",
            )
            assert not reading.done()
        assert reading.result(30).json()["name"] == "new"


def test_a_token_read_from_a_deposed_primary_waits_and_one_without_is_stale(
    three_member_set: ThreeMemberSet, relay_to_three: Relay, make_api: Callable[..., httpx.Client]
) -> None:
    deposed, (successor, other) = three_member_set.primary, three_member_set.secondaries
    writer = make_api(mongo_url=SecretStr(three_member_set.uri))
    reader = make_api(mongo_url=SecretStr(deposed.uri), read_timeout_seconds=30)
    asynchronously = {"Prefer": "respond-async"}
    created = writer.post("/users", json={"name": "old", "email": "ada@example.org"}, headers=asynchronously)
    settle(relay_to_three)
    assert reader.get("/users/1", headers={TOKEN: created.headers[TOKEN]}).json()["name"] == "old"

    with ThreadPoolExecutor(1) as pool:
        with deposed.clinging_to_its_role():
            wait_until(lambda: becomes_primary(successor), "the other one has been elected", 60)
            updated = writer.put("/users/1", json={"name": "new"}, headers=asynchronously)
            settle(relay_to_three, lambda: follow(other, successor))
            assert reader.get("/users/1").json()["name"] == "old"
            reading = pool.submit(reader.get, "/users/1", headers={TOKEN: updated.headers[TOKEN]})
            wait_until(lambda: finds_in_progress(deposed), "the read has reached the deposed one and waits there")
            assert not reading.done()
        answer = reading.result(60)
        # In stepping down it breaks off what waits.
        assert answer.status_code == 503 or answer.json()["name"] == "new"


def becomes_primary(member: Member) -> bool:
    with suppress(OperationFailure):
        member.client.admin.command("replSetStepUp", skipDryRun=True)
    return bool(member.hello.get("isWritablePrimary"))


def follow(member: Member, primary: Member) -> None:
    """Without being told, it stays with the old one for half a minute."""
    member.client.admin.command("replSetSyncFrom", primary.address)


def settle(relay: Relay, before: Callable[[], None] = lambda: None) -> None:
    """Step until a message is settled, as often as that takes on a busy machine and in an election."""

    def settles() -> bool:
        before()
        with suppress(*TRANSIENT):
            return relay.run_once().settled > 0
        return False

    wait_until(settles, "the write is settled", 120)
