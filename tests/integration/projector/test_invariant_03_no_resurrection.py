"""Invariant 3: a late upsert never brings a deleted document back, and nothing is written after the deadline."""

from collections.abc import Callable

import pytest
from psycopg.rows import args_row
from pymongo.database import Database

from projector import deadline as deadline_module
from projector import outbox as outbox_sql
from projector.deadline import Deadline, DeadlinePassedError
from projector.delivery import Delivery
from projector.relay import Relay
from shared.mongo import Document
from shared.outbox.message import OutboxMessage
from tests.fixtures.relays import Outbox, Watched, drain

WRITES = ("insert", "update", "delete")


@pytest.mark.parametrize("aggregate_type", ["user", "item"])
@pytest.mark.parametrize("late_version", [1, 2])
def test_a_late_upsert_finds_the_tombstone_and_leaves_it(
    relay: Relay, outbox: Outbox, read_models: Database[Document], aggregate_type: str, late_version: int
) -> None:
    append = {"user": outbox.user, "item": outbox.item}[aggregate_type]
    append(1)
    drain(relay)
    outbox.deleted(aggregate_type, 1, 3)
    drain(relay)

    append(1, late_version)
    counts = drain(relay)

    assert (counts.stale, counts.settled) == (1, 1)
    (tombstone,) = read_models[f"{aggregate_type}s_read"].find()
    assert tombstone.keys() == {"_id", "version", "deleted_at"}
    assert tombstone["version"] == 3


def test_a_tombstone_of_something_never_seen_keeps_its_upserts_out(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.deleted("item", 1, 2)
    drain(relay)
    outbox.item(1)
    drain(relay)

    assert read_models["items_read"].count_documents({"deleted_at": None}) == 0


def test_a_late_tombstone_does_not_replace_what_is_newer(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.user(1, 3)
    drain(relay)
    outbox.deleted("user", 1, 2)
    drain(relay)

    assert [d["version"] for d in read_models["users_read"].find({"deleted_at": None})] == [3]


def test_the_owner_of_a_deleted_item_is_not_put_into_its_tombstone(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.user(1)
    outbox.item(1)
    drain(relay)
    outbox.deleted("item", 1, 2)
    outbox.user(1, 2, "Grace")
    drain(relay)

    (tombstone,) = read_models["items_read"].find()
    assert tombstone.keys() == {"_id", "version", "deleted_at"}


def test_a_lane_past_its_deadline_writes_nothing(
    make_relay: Callable[..., Relay], outbox: Outbox, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()
    relay = make_relay(database)
    relay.run_once()
    outbox.user(1, 2)
    commands.sent.clear()

    with pytest.raises(DeadlinePassedError):
        Delivery(database, fan_out_step=1, fan_out_budget=0).deliver(_claimed(outbox), Deadline.after(0))

    assert commands.named(*WRITES) == []


def test_a_deadline_that_passes_between_two_writes_stops_the_second_and_keeps_the_messages(
    make_relay: Callable[..., Relay],
    outbox: Outbox,
    watch: Callable[[], Watched],
    read_models: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, commands = watch()
    relay = make_relay(database)
    outbox.user(1)
    outbox.item(1)
    clock = deadline_module.time.clock_gettime

    def jump() -> None:
        # A machine that was suspended: the boot clock went on.
        monkeypatch.setattr(deadline_module.time, "clock_gettime", lambda which: clock(which) + 3600)

    commands.before_next("insert", "users_read", jump)
    with pytest.raises(DeadlinePassedError):
        relay.run_once()
    monkeypatch.undo()

    assert read_models["users_read"].count_documents({}) == 1
    assert read_models["items_read"].count_documents({}) == 0
    assert len(outbox.ids()) == 2
    assert drain(relay).settled == 2


def test_a_batch_whose_deadline_passes_at_the_end_is_not_committed(
    make_relay: Callable[..., Relay], outbox: Outbox, watch: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, commands = watch()
    relay = make_relay(database)
    outbox.user(1)
    clock = deadline_module.time.clock_gettime
    commands.before_next(
        "insert",
        "users_read",
        lambda: monkeypatch.setattr(deadline_module.time, "clock_gettime", lambda which: clock(which) + 3600),
    )

    with pytest.raises(DeadlinePassedError):
        relay.run_once()

    assert len(outbox.ids()) == 1


def test_every_write_is_bounded_on_the_server(
    make_relay: Callable[..., Relay], outbox: Outbox, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()
    relay = make_relay(database, batch_deadline_seconds=7, batch_size=1)
    relay.run_once()
    commands.sent.clear()
    outbox.user(1)
    outbox.item(1)
    outbox.user(1, 2, "Grace")
    outbox.item(1, 2)
    outbox.item(2)
    outbox.deleted("item", 1, 3)
    drain(relay)

    writes = commands.named(*WRITES)
    assert len(writes) >= 7  # five messages, the owner of one item after the rename, the owner of one item stored late
    assert all(0 < write.get("maxTimeMS", 0) <= 7000 for write in writes)
    assert all(0 < read.get("maxTimeMS", 0) <= 7000 for read in commands.named("find"))


def _claimed(outbox: Outbox) -> list[OutboxMessage]:
    outbox_sql.prepare(outbox.connection)
    cursor = outbox.connection.cursor(row_factory=args_row(OutboxMessage))
    return cursor.execute(outbox_sql.CLAIM.statement, {"after": 0, "limit": 10}).fetchall()
