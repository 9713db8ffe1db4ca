"""What has expired is purged, all else stays: idempotency keys, and what verifications and replays came to."""

import threading
from functools import partial

import psycopg
import pytest
from pymongo.database import Database
from structlog.testing import capture_logs

from projector import housekeeping as housekeeping_module
from projector.connection import open_relay_connection
from projector.housekeeping import PURGE_KEYS, Housekeeping, Purged
from projector.settings import ProjectorSettings
from projector.tombstones import TombstonePurge
from shared import retention
from shared.mongo import Document
from tests.fixtures.relays import projecting
from tests.fixtures.waiting import wait_until

ADD = """
    INSERT INTO idempotency_keys (principal, route, key, request_hash, aggregate_type, aggregate_id, aggregate_version,
                                  event_type, payload, message_id, created_at)
    SELECT '', 'POST /users', %(name)s::text || n, sha256(''), 'user', n, 1, 'user.created', '{}', n,
           clock_timestamp() - %(age)s::interval
    FROM generate_series(1, %(count)s) AS n
"""

ADD_VERIFICATION = """
    INSERT INTO verifications (aggregate_type, kind, compared, missing, stale, orphaned, different, ended_at)
    VALUES (%s, 'sample', 1, 0, 0, 0, 0, clock_timestamp() - %s::interval)
"""
ADD_REPLAY = """
    INSERT INTO replays (aggregate_type, shadow, shadow_uuid, shape, state, cursor, copied, expected, ended_at)
    SELECT %(type)s, 'shadow', gen_random_uuid(), 1,
           CASE WHEN %(age)s::interval IS NULL THEN 'copying' ELSE 'done' END, 0, 0, 0,
           clock_timestamp() - %(age)s::interval
"""


@pytest.fixture
def housekeeping(settings: ProjectorSettings, read_models: Database[Document]) -> Housekeeping:
    """What a projector's housekeeping does, to be done by hand."""
    tombstones = TombstonePurge(settings, partial(open_relay_connection, settings, "test", read_models), read_models)
    return Housekeeping(settings, "test", tombstones)


def purge_keys(housekeeping: Housekeeping) -> int:
    """Purge and return how many keys went."""
    return housekeeping.purge_postgres()["idempotency_keys"]


def add(postgres: psycopg.Connection, name: str, age: str, count: int = 1) -> None:
    """Store results of this age."""
    postgres.execute(ADD, {"name": name, "age": age, "count": count})


def keys(postgres: psycopg.Connection) -> list[str]:
    """Return the keys that are left."""
    return [key for (key,) in postgres.execute("SELECT key FROM idempotency_keys ORDER BY key")]


def test_only_keys_older_than_24_hours_are_purged(housekeeping: Housekeeping, postgres: psycopg.Connection) -> None:
    add(postgres, "old", "24 hours 1 second")
    add(postgres, "young", "23 hours 59 minutes")
    assert purge_keys(housekeeping) == 1
    assert keys(postgres) == ["young1"]
    assert purge_keys(housekeeping) == 0


def test_a_batch_is_small_the_oldest_go_first_and_the_rest_follows_at_once(
    housekeeping: Housekeeping, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping_module, "BATCH", 3)
    add(postgres, "b", "2 days", 3)
    add(postgres, "a", "3 days", 3)
    add(postgres, "c", "25 hours", 1)
    assert purge_keys(housekeeping) == 3
    assert keys(postgres) == ["b1", "b2", "b3", "c1"]
    stop, purged = threading.Event(), list[int]()

    def note(counts: Purged) -> None:
        purged.append(counts["idempotency_keys"])
        if len(purged) == 2:
            stop.set()

    housekeeping.run(stop, note, lambda error: pytest.fail(str(error)))
    assert purged == [3, 1]


def test_a_key_that_a_command_takes_anew_is_neither_waited_for_nor_purged(
    housekeeping: Housekeeping, postgres: psycopg.Connection, database_url: str
) -> None:
    add(postgres, "old", "2 days", 2)
    with psycopg.connect(database_url) as command:
        command.execute("UPDATE idempotency_keys SET created_at = clock_timestamp() WHERE key = 'old1'")
        assert purge_keys(housekeeping) == 1
        command.commit()
    assert purge_keys(housekeeping) == 0
    assert keys(postgres) == ["old1"]


def test_of_each_read_model_the_latest_verification_stays_and_the_others_for_30_days(
    housekeeping: Housekeeping, postgres: psycopg.Connection
) -> None:
    for aggregate_type, age in (
        ("item", "40 days"), ("user", "31 days"), ("item", "30 days 1 second"), ("item", "29 days"),
    ):  # fmt: skip
        postgres.execute(ADD_VERIFICATION, (aggregate_type, age))

    assert housekeeping.purge_postgres()["verifications"] == 2

    left = postgres.execute("SELECT aggregate_type FROM verifications ORDER BY id").fetchall()
    assert left == [("user",), ("item",)]


def test_of_each_read_model_the_latest_replay_stays_and_the_others_for_90_days_after_their_end(
    housekeeping: Housekeeping, postgres: psycopg.Connection
) -> None:
    for aggregate_type, age in (("item", "91 days"), ("user", "91 days"), ("item", "89 days"), ("item", None)):
        postgres.execute(ADD_REPLAY, {"type": aggregate_type, "age": age})

    assert housekeeping.purge_postgres()["replays"] == 1

    left = postgres.execute("SELECT aggregate_type, state FROM replays ORDER BY id").fetchall()
    assert left == [("user", "done"), ("item", "done"), ("item", "copying")]


def test_the_latest_replay_that_is_done_stays_however_many_were_given_up_after_it(
    housekeeping: Housekeeping, postgres: psycopg.Connection
) -> None:
    for state in ("done", "done", "failed", "failed"):
        postgres.execute(ADD_REPLAY, {"type": "item", "age": "91 days"})
        postgres.execute("UPDATE replays SET state = %s WHERE id = (SELECT max(id) FROM replays)", (state,))

    assert housekeeping.purge_postgres()["replays"] == 2

    assert postgres.execute("SELECT id, state FROM replays ORDER BY id").fetchall() == [(2, "done"), (4, "failed")]


def test_a_discarded_message_stays_for_its_token_would_be_told_that_it_is_settled(
    housekeeping: Housekeeping, postgres: psycopg.Connection
) -> None:
    postgres.execute(
        "INSERT INTO outbox_failures (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload,"
        "  created_at, state, attempts, error, failed_at)"
        " SELECT 1, 'user', 1, 1, 'user.created', '{}', at, 'discarded', 1, 'refused', at"
        " FROM (SELECT clock_timestamp() - interval '10 years' AS at) AS long_ago"
    )

    housekeeping.purge_postgres()
    housekeeping.purge_tombstones()

    assert postgres.execute("SELECT state FROM outbox_failures").fetchall() == [("discarded",)]


def test_a_running_projector_purges(settings: ProjectorSettings, postgres: psycopg.Connection) -> None:
    add(postgres, "old", "2 days", 1500)
    with capture_logs() as lines, projecting(settings):
        wait_until(lambda: not keys(postgres), "both batches are purged")
        wait_until(lambda: len(purges(lines)) == 2, "both are reported")
    assert purges(lines) == [1000, 500]


def purges(lines: list[dict[str, object]]) -> list[object]:
    """Return what was purged, as the log has it."""
    return [line["idempotency_keys"] for line in lines if line["event"] == "housekeeping.purged"]


def test_a_fault_is_reported_and_harms_nothing_else(settings: ProjectorSettings, postgres: psycopg.Connection) -> None:
    postgres.execute("ALTER TABLE idempotency_keys RENAME TO gone")
    with capture_logs() as lines, projecting(settings) as projector:
        wait_until(lambda: [line for line in lines if line["event"] == "housekeeping.failed"], "the fault is reported")
        assert projector.name
    assert [line["event"] for line in lines if line["log_level"] == "error"] == []


def test_the_purge_looks_at_the_oldest_alone(postgres: psycopg.Connection) -> None:
    add(postgres, "young", "1 hour", 5000)
    add(postgres, "old", "2 days", 10)
    postgres.execute("ANALYZE idempotency_keys")
    plan = "\n".join(
        row[0] for row in postgres.execute(f"EXPLAIN {PURGE_KEYS}", {"kept": retention.IDEMPOTENCY_KEYS, "limit": 1000})
    )
    assert "Index Scan using ix_idempotency_keys_created_at" in plan
    assert "Tid Scan" in plan
    assert "Seq Scan" not in plan
