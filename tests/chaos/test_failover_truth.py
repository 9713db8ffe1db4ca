"""Failover truth: what was acknowledged survives the death of the primary, and would not with less than a majority."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from pymongo import MongoClient, WriteConcern
from pymongo.errors import PyMongoError

from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.projections.registry import PROJECTIONS
from projector.relay import Relay
from projector.retry import TRANSIENT
from projector.settings import ProjectorSettings
from projector.verify import compare
from shared.mongo import Document, read_model_database
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import Outbox, drain, projecting
from tests.fixtures.replica_sets import Member, ThreeMemberSet
from tests.fixtures.waiting import wait_until

TOKEN = "Consistency-Token"
BY_THE_PRIMARY_ALONE = WriteConcern(w=1)


@pytest.fixture
def settings_for_three(settings: ProjectorSettings, three_member_set: ThreeMemberSet) -> Iterator[ProjectorSettings]:
    """The settings of a projector whose read models are on the set of three; a batch is given up after a second."""
    uri = SecretStr(three_member_set.uri)
    yield settings.model_copy(update={"mongo_url": uri, "batch_deadline_seconds": 1})
    three_member_set.make_whole()
    three_member_set.primary.client.drop_database(settings.mongo_database)


@pytest.fixture
def api_for_three(make_api: Callable[..., ApiClient], three_member_set: ThreeMemberSet) -> ApiClient:
    """An API whose read models are on the set of three."""
    return make_api(mongo_url=SecretStr(three_member_set.uri), default_wait_seconds=30)


@pytest.fixture
def make_relay_for_three(settings_for_three: ProjectorSettings) -> Iterator[Callable[..., Relay]]:
    """Makes relays to the set of three; the keywords are options of their database."""
    settings = settings_for_three
    uri = settings.mongo_url.get_secret_value()
    with MongoClient[Document](uri, retryWrites=False) as client, ExitStack() as stack:

        def make(**options: Any) -> Relay:
            database = read_model_database(client, settings).with_options(**options)
            connection = partial(open_relay_connection, settings, "test relay", database)
            relay = Relay(settings, connection, Delivery.of(settings, database), ClaimPosition())
            stack.callback(relay.close)
            return relay

        yield make


def names_on(member: Member, database: str) -> dict[int, str]:
    return {user["_id"]: user["name"] for user in member.client[database]["users_read"].find()}


def test_what_a_majority_did_not_take_is_not_settled_and_with_one_member_it_is_settled_and_lost(
    three_member_set: ThreeMemberSet,
    make_relay_for_three: Callable[..., Relay],
    api_for_three: ApiClient,
    outbox: Outbox,
    postgres: psycopg.Connection,
    mongo_database: str,
) -> None:
    ours, control = make_relay_for_three(), make_relay_for_three(write_concern=BY_THE_PRIMARY_ALONE)
    for relay in (ours, control):
        drain(relay)  # has looked whose the read models are, for which it needs a majority

    def create(name: str, **headers: str) -> httpx.Response:
        user = {"name": name, "email": f"{name}@example.org"}
        return api_for_three.post("/users", json=user, headers=headers)

    def read(written: httpx.Response) -> httpx.Response:
        return api_for_three.get(written.headers["Location"], headers={TOKEN: written.headers[TOKEN]})

    doomed = three_member_set.primary
    with three_member_set.replicating_nowhere(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(create, "lost")
        wait_until(outbox.ids, "the command has been done")
        assert drain(control).settled == 1
        lost = waiting.result(60)
        assert lost.status_code == 201
        kept = create("kept", Prefer="respond-async")
        with pytest.raises(PyMongoError):
            ours.run_once()
        assert set(names_on(doomed, mongo_database).values()) == {"lost", "kept"}
        assert len(outbox.ids()) == 1
        doomed.kill()

    assert three_member_set.primary is not doomed
    wait_until(lambda: _settles(ours), "the relay has found the new primary")
    assert read(kept).json()["name"] == "kept"
    assert read(lost).status_code == 404
    three_member_set.make_whole()
    on_members = [names_on(member, mongo_database) for member in three_member_set.members]
    assert on_members == [{kept.json()["id"]: "kept"}] * 3
    with MongoClient[Document](three_member_set.uri) as client:
        drift = list(compare(postgres, client[mongo_database]["users_read"], PROJECTIONS["user"]))
    assert [(found.aggregate_id, found.kind) for found in drift] == [(lost.json()["id"], "missing")]


def _settles(relay: Relay) -> bool:
    with suppress(*TRANSIENT):
        return relay.run_once().settled > 0
    return False


def test_nothing_acknowledged_is_rolled_back_when_the_primary_is_killed_during_writes(
    three_member_set: ThreeMemberSet,
    settings_for_three: ProjectorSettings,
    api_for_three: ApiClient,
    mongo_database: str,
) -> None:
    stop, acknowledged = threading.Event(), dict[int, str]()

    def write(client: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            name = f"client{client}-{number}"
            answer = api_for_three.post("/users", json={"name": name, "email": f"{name}@example.org"})
            if answer.status_code == 201:
                acknowledged[answer.json()["id"]] = name

    with projecting(settings_for_three), ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, client) for client in range(4)]
        try:
            wait_until(lambda: len(acknowledged) > 50, "clients write", 60)
            killed = three_member_set.primary
            killed.kill()
            before = len(acknowledged)
            wait_until(lambda: len(acknowledged) > before + 50, "clients write again", 60)
        finally:
            stop.set()
        for writer in writers:
            writer.result(60)

    three_member_set.make_whole()
    for member in three_member_set.members:
        assert names_on(member, mongo_database).items() >= acknowledged.items()
