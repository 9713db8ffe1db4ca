"""Invariant 3: a tombstone is purged only when nothing can come any more that it has to keep out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from pymongo.database import Database

from projector import tombstones as tombstones_module
from projector.connection import open_relay_connection
from projector.relay import Relay
from projector.settings import ProjectorSettings
from projector.tombstones import SEEN_BEFORE_SECONDS, TombstonePurge
from shared.installation import InstallationChangedError
from shared.mongo import Document
from shared.postgres import READ_MODELS_LOCK
from tests.fixtures.relays import Outbox, Watched, drain

ITEM, VERSION = 1, 3


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Purge:
    """A purge to step by hand, and its clock."""

    purge: TombstonePurge
    clock: Clock

    def round(self) -> int:
        """Go once over the tombstones; return how many were purged."""
        return self.purge.run_once()

    def an_hour_later(self) -> int:
        """Go over them an hour after the last time."""
        self.clock.now += SEEN_BEFORE_SECONDS
        return self.purge.run_once()


@pytest.fixture
def make_purge(settings: ProjectorSettings, read_models: Database[Document]) -> Callable[..., Purge]:
    """Makes purges, each as a projector of its own has one."""

    def make(database: Database[Document] = read_models) -> Purge:
        clock = Clock()
        open_connection = partial(open_relay_connection, settings, "test housekeeping", database)
        return Purge(TombstonePurge(settings, open_connection, database, clock), clock)

    return make


@pytest.fixture
def purge(make_purge: Callable[..., Purge]) -> Purge:
    """One purge."""
    return make_purge()


@pytest.fixture
def buried(relay: Relay, outbox: Outbox, read_models: Database[Document]) -> Document:
    """The tombstone of an item that was deleted long ago, with everything settled."""
    outbox.item(ITEM)
    drain(relay)
    outbox.deleted("item", ITEM, VERSION)
    drain(relay)
    (tombstone,) = read_models["items_read"].find()
    assert tombstone["deleted_at"] < datetime.now(UTC) - timedelta(days=8)
    return tombstone


def fail(connection: psycopg.Connection, state: str) -> None:
    """Put a message of the item into `outbox_failures`."""
    connection.execute(
        "INSERT INTO outbox_failures (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload,"
        "  created_at, state, attempts, error, next_attempt_at)"
        " VALUES (1, 'item', %s, %s, 'item.repaired', '{}', clock_timestamp(), %s, 1, 'refused', %s)",
        (ITEM, VERSION, state, datetime.now(UTC) if state == "retrying" else None),
    )


def begin_replay(connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO replays (aggregate_type, shadow, shadow_uuid, shape, state, cursor, copied, expected)"
        " VALUES ('user', 'shadow', gen_random_uuid(), 1, 'copying', 0, 0, 0)"
    )


def is_buried(read_models: Database[Document]) -> bool:
    return read_models["items_read"].count_documents({"_id": ITEM, "deleted_at": {"$exists": True}}) == 1


def test_an_old_tombstone_is_purged_once_two_rounds_an_hour_apart_have_found_nothing_against_it(
    purge: Purge, buried: Document, read_models: Database[Document]
) -> None:
    assert purge.round() == 0
    purge.clock.now += SEEN_BEFORE_SECONDS - 1
    assert purge.round() == 0
    assert is_buried(read_models)

    purge.clock.now += 1
    assert purge.round() == 1

    assert read_models["items_read"].count_documents({}) == 0


@pytest.mark.parametrize(("age", "purged"), [("7 days -1 minute", 0), ("7 days 1 minute", 1)])
def test_postgresqls_clock_says_whether_the_days_have_passed(
    purge: Purge, buried: Document, read_models: Database[Document], postgres: psycopg.Connection, age: str, purged: int
) -> None:
    row = postgres.execute("SELECT clock_timestamp() - %s::interval", (age,)).fetchone()
    assert row
    read_models["items_read"].update_one({"_id": ITEM}, {"$set": {"deleted_at": row[0]}})

    purge.round()
    assert purge.an_hour_later() == purged


@pytest.mark.parametrize("state", ["retrying", "dead", "discarded"])
def test_a_failed_message_of_the_aggregate_keeps_the_tombstone_whatever_its_state(
    purge: Purge, buried: Document, read_models: Database[Document], postgres: psycopg.Connection, state: str
) -> None:
    purge.round()
    fail(postgres, state)
    assert purge.an_hour_later() == 0
    assert is_buried(read_models)

    postgres.execute("DELETE FROM outbox_failures")
    assert purge.an_hour_later() == 0  # the hour begins again
    assert purge.an_hour_later() == 1


def test_a_message_of_the_aggregate_on_its_way_keeps_the_tombstone(
    purge: Purge, buried: Document, outbox: Outbox, relay: Relay, read_models: Database[Document]
) -> None:
    purge.round()
    outbox.item(ITEM, 2)
    assert purge.an_hour_later() == 0

    drain(relay)  # the late upsert finds the tombstone
    assert is_buried(read_models)
    assert purge.an_hour_later() == 0
    assert purge.an_hour_later() == 1


def test_a_message_that_a_lane_has_claimed_but_not_settled_keeps_the_tombstone(
    purge: Purge,
    buried: Document,
    outbox: Outbox,
    make_relay: Callable[..., Relay],
    watch: Callable[[], Watched],
    read_models: Database[Document],
) -> None:
    database, commands = watch()
    lane = make_relay(database)
    purge.round()
    outbox.item(ITEM, 2)
    purged: list[int] = []
    commands.before_next("update", "items_read", lambda: purged.append(purge.an_hour_later()))

    assert drain(lane).stale == 1

    assert purged == [0]
    assert is_buried(read_models)


def test_nothing_is_purged_while_a_replay_runs_and_the_hour_begins_after_it(
    purge: Purge, buried: Document, read_models: Database[Document], postgres: psycopg.Connection
) -> None:
    purge.round()
    begin_replay(postgres)
    assert purge.an_hour_later() == 0

    postgres.execute("UPDATE replays SET state = 'done', ended_at = clock_timestamp()")
    assert purge.an_hour_later() == 0
    assert is_buried(read_models)
    assert purge.an_hour_later() == 1


def test_no_replay_can_begin_between_the_look_and_the_delete(
    make_purge: Callable[..., Purge], buried: Document, watch: Callable[[], Watched], postgres: psycopg.Connection
) -> None:
    database, commands = watch()
    purge = make_purge(database)
    purge.round()
    locked: list[Any] = []

    def register() -> None:
        # Whoever registers a replay holds the read models exclusively.
        locked.append(postgres.execute("SELECT pg_try_advisory_xact_lock(%s)", (READ_MODELS_LOCK,)).fetchone())

    commands.before_next("delete", "items_read", register)
    assert purge.an_hour_later() == 1
    assert locked == [(False,)]


def test_a_newer_tombstone_that_is_written_between_the_look_and_the_delete_stays(
    make_purge: Callable[..., Purge],
    buried: Document,
    watch: Callable[[], Watched],
    outbox: Outbox,
    relay: Relay,
    read_models: Database[Document],
) -> None:
    database, commands = watch()
    purge = make_purge(database)
    purge.round()

    def repair() -> None:
        outbox.deleted("item", ITEM, VERSION + 2)
        drain(relay)

    commands.before_next("delete", "items_read", repair)
    assert purge.an_hour_later() == 0

    (tombstone,) = read_models["items_read"].find()
    assert tombstone["version"] == VERSION + 2
    outbox.item(ITEM, VERSION + 1)
    assert drain(relay).stale == 1


def test_a_document_that_takes_the_tombstones_place_between_the_look_and_the_delete_stays(
    make_purge: Callable[..., Purge],
    buried: Document,
    watch: Callable[[], Watched],
    outbox: Outbox,
    relay: Relay,
    read_models: Database[Document],
) -> None:
    database, commands = watch()
    purge = make_purge(database)
    purge.round()

    def restore() -> None:
        outbox.item(ITEM, VERSION + 1, name="restored")
        drain(relay)

    commands.before_next("delete", "items_read", restore)
    assert purge.an_hour_later() == 0
    assert [item["name"] for item in read_models["items_read"].find({"deleted_at": None})] == ["restored"]


def test_one_projector_purges_at_a_time(
    make_purge: Callable[..., Purge], buried: Document, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()
    first, second = make_purge(database), make_purge()
    first.round()
    second.round()
    meanwhile: list[int] = []
    commands.before_next("delete", "items_read", lambda: meanwhile.append(second.an_hour_later()))

    assert first.an_hour_later() == 1
    assert meanwhile == [0]
    assert second.an_hour_later() == 0


def test_a_delete_that_was_projected_days_late_has_its_hour_all_the_same(
    purge: Purge, relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    purge.round()
    outbox.deleted("item", ITEM, VERSION)
    drain(relay)
    assert purge.an_hour_later() == 0
    assert is_buried(read_models)


def test_a_write_model_that_was_replaced_meanwhile_purges_nothing(
    make_purge: Callable[..., Purge],
    buried: Document,
    watch: Callable[[], Watched],
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    database, commands = watch()
    purge = make_purge(database)
    purge.round()

    # createIndexes is the last command before the read models are held again.
    commands.before_next(
        "createIndexes", "items_read", lambda: postgres.execute("UPDATE installation SET id = gen_random_uuid()")
    )
    with pytest.raises(InstallationChangedError):
        purge.an_hour_later()
    assert is_buried(read_models)


def test_a_batch_is_bounded_and_the_oldest_go_first(
    purge: Purge, relay: Relay, read_models: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tombstones_module, "BATCH", 3)
    relay.run_once()
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    read_models["users_read"].insert_many(
        {"_id": n, "version": 2, "deleted_at": long_ago + timedelta(days=10 - n)} for n in range(1, 6)
    )
    purge.round()

    assert purge.an_hour_later() == 3

    assert [user["_id"] for user in read_models["users_read"].find().sort("_id", 1)] == [1, 2]


def test_the_purge_looks_at_old_tombstones_alone(purge: Purge, relay: Relay, read_models: Database[Document]) -> None:
    relay.run_once()
    now = datetime.now(UTC)
    read_models["users_read"].insert_many(
        {"_id": n, "name": "Ada", "email": "ada@example.org", "version": 1, "created_at": now, "updated_at": now}
        for n in range(1, 501)
    )
    read_models["users_read"].insert_many(
        {"_id": n, "version": 2, "deleted_at": now - timedelta(days=n % 10, hours=1)} for n in range(501, 601)
    )

    found = read_models["users_read"].find({"deleted_at": {"$lt": now - timedelta(days=7)}}).sort("deleted_at", 1)
    explained = found.limit(10_000).explain()

    assert explained["executionStats"]["totalDocsExamined"] == 30
    assert explained["executionStats"]["totalKeysExamined"] == 30
