"""Claim and settle: who gets which message, by which index, and how many statements it takes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from pymongo.database import Database

from projector import backlog
from projector import outbox as sql
from projector.batch import Batch, prepare_to_relay
from projector.connection import open_relay_connection
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.mongo import Document
from shared.postgres import SETTLED_CHANNEL
from tests.fixtures.relays import Outbox, Watched, drain
from tests.fixtures.waiting import wait_until

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def connected(relay: Relay) -> psycopg.Connection:
    connection, _ = relay._connected()  # noqa: SLF001 - what the relay sends is looked at on its own connection
    return connection


def test_two_relays_work_on_disjoint_messages_at_the_same_time(
    make_relay: Callable[..., Relay],
    outbox: Outbox,
    watch: Callable[[], Watched],
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    database, commands = watch()
    patient = {"batch_size": 5, "batch_deadline_seconds": 60}
    first, second = make_relay(database, **patient), make_relay(**patient)
    outbox.bulk(10)
    claimed: list[int] = []

    def claim_meanwhile() -> None:
        working = pool.submit(second.run_once)
        wait_until(lambda: working.done() or postgres.execute(BLOCKED).fetchone() == (1,), "it is done, or waits")
        claimed.append(working.result().claimed if working.done() else 0)

    with ThreadPoolExecutor(1) as pool:
        commands.before_next("insert", "users_read", claim_meanwhile)
        claimed.append(first.run_once().claimed)

    assert claimed == [5, 5]
    assert outbox.ids() == []
    assert read_models["users_read"].count_documents({}) == 10


@pytest.fixture
def new_batch(settings: ProjectorSettings, read_models: Database[Document]) -> Iterator[Callable[[], Batch]]:
    """Makes batches of one lane."""
    connection, installation = open_relay_connection(settings, "test", read_models)
    prepare_to_relay(connection)
    with connection:
        yield lambda: Batch(connection, installation)


def test_messages_are_claimed_in_the_order_of_their_ids(new_batch: Callable[[], Batch], outbox: Outbox) -> None:
    outbox.bulk(20)
    with new_batch() as batch:
        assert [m.id for m in batch.claim(sql.CLAIM, after=0, limit=7)] == outbox.ids()[:7]
    with new_batch() as batch:
        assert [m.id for m in batch.claim(sql.CLAIM, after=outbox.ids()[9], limit=50)] == outbox.ids()[10:]


def test_what_is_claimed_and_not_settled_is_where_it_was(new_batch: Callable[[], Batch], outbox: Outbox) -> None:
    outbox.bulk(3)
    with new_batch() as batch:
        assert len(batch.claim(sql.CLAIM, after=0, limit=2)) == 2
    assert len(outbox.ids()) == 3
    with pytest.raises(KeyError), new_batch() as batch:
        raise KeyError(len(batch.claim(sql.CLAIM, after=0, limit=2)))
    assert len(outbox.ids()) == 3
    with new_batch() as batch:
        assert len(batch.claim(sql.CLAIM, after=0, limit=5)) == 3


def test_a_claimed_message_is_what_was_appended(new_batch: Callable[[], Batch], outbox: Outbox) -> None:
    message_id = outbox.user(7, 3, "Ada", awaited=True)
    with new_batch() as batch:
        (message,) = batch.claim(sql.CLAIM, after=0, limit=1)
    assert (message.id, message.aggregate_type, message.aggregate_id, message.aggregate_version) == (
        message_id,
        "user",
        7,
        3,
    )
    assert (message.event_type, message.awaited, message.cursor) == ("user.updated", True, None)
    assert isinstance(message.payload, bytes)


def test_awaited_messages_overtake_a_bulk_import_in_the_lane_that_serves_clients_alone(
    make_relay: Callable[..., Relay], outbox: Outbox
) -> None:
    outbox.bulk(30)
    awaited = [outbox.user(100, awaited=True), outbox.user(101, awaited=True)]
    serving, other = make_relay(awaited_only=True, batch_size=10), make_relay(batch_size=10)

    other.run_once()
    assert set(awaited) < set(outbox.ids())
    serving.run_once()
    assert not set(awaited) & set(outbox.ids())
    assert len(outbox.ids()) == 20
    # Nobody who comes now stands behind the rest.
    assert serving.run_once().claimed == 0


def plan(connection: psycopg.Connection, statement: str, after: int) -> str:
    rows = connection.execute(f"EXPLAIN {statement}", {"after": after, "limit": 100}).fetchall()  # type: ignore[arg-type] - composed of constants
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("after", [0, 9_000])
def test_claims_use_their_indexes_and_scan_no_table(postgres: psycopg.Connection, outbox: Outbox, after: int) -> None:
    outbox.bulk(10_000)
    postgres.execute("UPDATE outbox SET awaited = true WHERE id % 100 = 0")
    postgres.execute("VACUUM ANALYZE outbox")

    claim, claim_awaited = (plan(postgres, each.statement, after) for each in (sql.CLAIM, sql.CLAIM_AWAITED))

    assert "Seq Scan" not in claim + claim_awaited
    # Each finds its messages by one index and deletes them by their key.
    assert claim.count("pk_outbox") == 2
    assert (claim_awaited.count("ix_outbox_awaited"), claim_awaited.count("pk_outbox")) == (1, 1)


class CountingCursor(psycopg.Cursor[Any]):
    """Counts the statements of every connection that makes its cursors of this class."""

    statements = 0

    def execute(self, *args: Any, **options: Any) -> Any:
        type(self).statements += 1
        return super().execute(*args, **options)

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> Any:
        parameters = list(params_seq)
        type(self).statements += len(parameters)
        super().executemany(query, parameters, **options)


@pytest.mark.parametrize("awaited", [False, True])
def test_the_statements_of_a_batch_do_not_grow_with_its_size(relay: Relay, outbox: Outbox, *, awaited: bool) -> None:
    relay.run_once()
    connected(relay).cursor_factory = CountingCursor
    counted = []
    for size in (1, 10, 200):
        outbox.bulk(size, first=1000 * size)
        outbox.connection.execute("UPDATE outbox SET awaited = %s", (awaited,))
        CountingCursor.statements = 0
        assert relay.run_once().settled == size
        counted.append(CountingCursor.statements)

    assert len(set(counted)) == 1
    # BEGIN, hold and claim; settle and COMMIT.
    assert counted[0] == 2


def test_the_ids_of_a_large_awaited_batch_are_notified_in_several_parts(
    relay: Relay, outbox: Outbox, postgres: psycopg.Connection
) -> None:
    relay.run_once()
    postgres.execute("SELECT setval(pg_get_serial_sequence('outbox', 'id'), 1000000000000)")
    outbox.bulk(1000)
    postgres.execute("UPDATE outbox SET awaited = true")
    ids = outbox.ids()
    postgres.execute(f"LISTEN {SETTLED_CHANNEL}")

    relay.run_once()

    payloads = [n.payload.split()[1] for n in postgres.notifies(timeout=5, stop_after=2)]
    assert len(payloads) == 2
    assert sorted(int(i) for payload in payloads for i in payload.split(",")) == ids


def test_status_counts_what_is_not_settled_and_leaves_dead_letters_apart(
    relay: Relay, outbox: Outbox, postgres: psycopg.Connection
) -> None:
    assert backlog.status(postgres) == backlog.OutboxStatus(0, 0.0, 0, 0)
    outbox.append("item", 7, 1, "exploded", {})
    drain(relay)
    assert backlog.status(postgres) == backlog.OutboxStatus(0, 0.0, 0, 1)

    outbox.bulk(3)
    postgres.execute("UPDATE outbox SET created_at = clock_timestamp() - interval '1 hour' WHERE aggregate_id = 2")
    status = backlog.status(postgres)
    assert (status.backlog, status.failures, status.dead_letters) == (3, 0, 1)
    assert 3600 <= status.lag_seconds < 3660

    postgres.execute("UPDATE outbox_failures SET state = 'retrying', next_attempt_at = now()")
    assert (backlog.status(postgres).backlog, backlog.status(postgres).failures) == (4, 1)
