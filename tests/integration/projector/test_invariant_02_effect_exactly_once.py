"""Invariant 2: at least once, effect exactly once. Any order, any number of times, any number of projectors."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from projector.deadline import Deadline
from projector.projections.gate import Applied, apply, write_of
from projector.relay import Relay
from shared.mongo import Document, create_client, ensure_read_models, read_model_database
from tests.fixtures.relays import NOW, Outbox, Watched, drain
from tests.integration.projector.conftest import OwnServers


def user(version: int) -> dict[str, Any]:
    return {
        "_id": 1, "name": f"name {version}", "email": "user1@example.org", "version": version,
        "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip


def put(collection: Collection[Document], version: int) -> Applied:
    return apply(collection, [write_of(user(version), is_new=version == 1)], Deadline.after(20))


@pytest.fixture
def users(read_models: Database[Document]) -> Collection[Document]:
    ensure_read_models(read_models)
    return read_models["users_read"]


def test_a_batch_is_written_and_settled(relay: Relay, outbox: Outbox, read_models: Database[Document]) -> None:
    outbox.user(1)
    outbox.item(1)

    counts = relay.run_once()

    assert (counts.claimed, counts.applied, counts.settled) == (2, 2, 2)
    assert outbox.ids() == []
    assert read_models["items_read"].count_documents({"name": "item 1"}) == 1


def test_a_message_delivered_again_changes_nothing(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.user(1)
    drain(relay)
    before = list(read_models["users_read"].find())

    outbox.user(1)
    counts = drain(relay)

    assert (counts.applied, counts.stale, counts.settled) == (0, 1, 1)
    assert list(read_models["users_read"].find()) == before


@pytest.mark.parametrize("version", [1, 2])
def test_the_same_version_is_stale_whatever_it_says(
    relay: Relay, outbox: Outbox, read_models: Database[Document], version: int
) -> None:
    outbox.user(1, version, "first")
    drain(relay)
    outbox.user(1, version, "second")

    assert drain(relay).stale == 1
    assert [d["name"] for d in read_models["users_read"].find()] == ["first"]


@pytest.mark.parametrize("versions", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (3, 3, 1), (2, 1, 3, 1, 2)])
def test_the_newest_version_stays_in_whatever_order_versions_come(
    make_relay: Callable[..., Relay], outbox: Outbox, read_models: Database[Document], versions: tuple[int, ...]
) -> None:
    for version in versions:
        outbox.user(1, version, f"name {version}")

    drain(make_relay(batch_size=1))

    assert [(d["version"], d["name"]) for d in read_models["users_read"].find()] == [(3, "name 3")]


def test_only_the_newest_of_one_aggregate_is_written_in_a_batch_and_all_are_settled(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    for version in (2, 1, 3):
        outbox.user(1, version)

    counts = relay.run_once()

    assert (counts.claimed, counts.applied, counts.settled) == (3, 1, 3)
    assert [d["version"] for d in read_models["users_read"].find()] == [3]


def test_several_relays_racing_for_versions_of_the_same_aggregates_end_at_the_newest(
    make_relay: Callable[..., Relay], outbox: Outbox, read_models: Database[Document]
) -> None:
    for version in (3, 1, 4, 2):
        for user_id in range(1, 21):
            outbox.user(user_id, version)
    relays = [make_relay(batch_size=7) for _ in range(3)]
    start = threading.Barrier(len(relays))

    def run(relay: Relay) -> None:
        start.wait()
        drain(relay)

    threads = [threading.Thread(target=run, args=(relay,)) for relay in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outbox.ids() == []
    assert [d["version"] for d in read_models["users_read"].find()] == [4] * 20


def test_a_first_insert_that_loses_the_race_to_a_newer_version_leaves_it_there(
    users: Collection[Document], watch: Callable[[], Watched]
) -> None:
    slow, commands = watch()
    commands.before_next("insert", "users_read", lambda: put(users, 2))

    assert put(slow["users_read"], 1) == Applied(applied=0, stale=1, refused={})
    assert [d["version"] for d in users.find()] == [2]


def test_an_insert_that_loses_the_race_to_an_older_version_wins_all_the_same(
    users: Collection[Document], watch: Callable[[], Watched]
) -> None:
    # A replay copies a row that is newer than what a batch stores just before it.
    slow, commands = watch()
    commands.before_next("insert", "users_read", lambda: put(users, 1))

    copied = apply(slow["users_read"], [write_of(user(2), is_new=True)], Deadline.after(20))

    assert copied == Applied(applied=1, stale=0, refused={})
    assert [d["version"] for d in users.find()] == [2]


def test_a_racing_first_insert_that_is_newer_wins_although_the_older_one_was_first(own_servers: OwnServers) -> None:
    # The server is held between finding nothing and inserting: the trap of notes/hot-paths.md, made certain.
    with create_client(own_servers.settings, "slow") as slow, create_client(own_servers.settings, "fast") as fast:
        collections = [read_model_database(c, own_servers.settings)["users_read"] for c in (slow, fast)]
        ensure_read_models(collections[1].database)
        point = fast.admin.command("configureFailPoint", "hangBeforeUpsertPerformsInsert", mode="alwaysOn")
        results: list[Applied] = []
        thread = threading.Thread(target=lambda: results.append(put(collections[0], 2)))
        thread.start()
        fast.admin.command(
            "waitForFailPoint", "hangBeforeUpsertPerformsInsert", timesEntered=point["count"] + 1, maxTimeMS=20_000
        )
        put(collections[1], 1)
        fast.admin.command("configureFailPoint", "hangBeforeUpsertPerformsInsert", mode="off")
        thread.join()

        assert results == [Applied(applied=1, stale=0, refused={})]
        assert [d["version"] for d in collections[1].find()] == [2]


def test_a_duplicate_key_is_never_taken_for_stale(users: Collection[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    # A server that gives up on a racing upsert answers with a duplicate key; here the first answer is that.
    put(users, 1)
    plain, calls = Collection.bulk_write, 0

    def answer(self: Collection[Document], operations: Any, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            return plain(self, operations, *args, **options)
        raise BulkWriteError(
            {
                "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000 duplicate key error"}],
                "writeConcernErrors": [],
                "nInserted": 0,
                "nUpserted": 0,
                "nModified": 0,
            }
        )

    monkeypatch.setattr(Collection, "bulk_write", answer)

    assert put(users, 2) == Applied(applied=1, stale=0, refused={})
    assert [d["version"] for d in users.find()] == [2]


def test_messages_that_were_written_but_not_settled_come_again(
    make_relay: Callable[..., Relay], outbox: Outbox, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    relay = make_relay()
    relay.run_once()
    outbox.user(1)
    postgres.execute("ALTER TABLE outbox_failures RENAME TO away")
    with pytest.raises(psycopg.errors.UndefinedTable):
        relay.run_once()
    assert read_models["users_read"].count_documents({}) == 1
    assert len(outbox.ids()) == 1

    postgres.execute("ALTER TABLE away RENAME TO outbox_failures")
    counts = drain(relay)

    assert (counts.stale, counts.settled) == (1, 1)
