"""Expired idempotency keys are purged, others stay."""

import threading

import psycopg
import pytest
from structlog.testing import capture_logs

from projector import housekeeping
from projector.housekeeping import PURGE_KEYS, Housekeeping
from projector.settings import ProjectorSettings
from shared.write_model.idempotency_key import KEPT
from tests.fixtures.relays import projecting
from tests.fixtures.waiting import wait_until

ADD = """
    INSERT INTO idempotency_keys (principal, route, key, request_hash, aggregate_type, aggregate_id, aggregate_version,
                                  event_type, payload, message_id, created_at)
    SELECT '', 'POST /users', %(name)s::text || n, sha256(''), 'user', n, 1, 'user.created', '{}', n,
           clock_timestamp() - %(age)s::interval
    FROM generate_series(1, %(count)s) AS n
"""


def add(postgres: psycopg.Connection, name: str, age: str, count: int = 1) -> None:
    """Store results of this age."""
    postgres.execute(ADD, {"name": name, "age": age, "count": count})


def keys(postgres: psycopg.Connection) -> list[str]:
    """Return the keys that are left."""
    return [key for (key,) in postgres.execute("SELECT key FROM idempotency_keys ORDER BY key")]


def test_only_what_is_older_than_24_hours_is_purged(settings: ProjectorSettings, postgres: psycopg.Connection) -> None:
    add(postgres, "old", "24 hours 1 second")
    add(postgres, "young", "23 hours 59 minutes")
    assert Housekeeping(settings, "test").run_once() == 1
    assert keys(postgres) == ["young1"]
    assert Housekeeping(settings, "test").run_once() == 0


def test_a_batch_is_small_the_oldest_go_first_and_the_rest_follows_at_once(
    settings: ProjectorSettings, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 3)
    add(postgres, "b", "2 days", 3)
    add(postgres, "a", "3 days", 3)
    add(postgres, "c", "25 hours", 1)
    assert Housekeeping(settings, "test").run_once() == 3
    assert keys(postgres) == ["b1", "b2", "b3", "c1"]
    stop, purged = threading.Event(), list[int]()

    def note(count: int) -> None:
        purged.append(count)
        if len(purged) == 2:
            stop.set()

    Housekeeping(settings, "test").run(stop, note, lambda error: pytest.fail(str(error)))
    assert purged == [3, 1]


def test_a_key_that_a_command_takes_anew_is_neither_waited_for_nor_purged(
    settings: ProjectorSettings, postgres: psycopg.Connection, database_url: str
) -> None:
    add(postgres, "old", "2 days", 2)
    with psycopg.connect(database_url) as command:
        command.execute("UPDATE idempotency_keys SET created_at = clock_timestamp() WHERE key = 'old1'")
        assert Housekeeping(settings, "test").run_once() == 1
        command.commit()
    assert Housekeeping(settings, "test").run_once() == 0
    assert keys(postgres) == ["old1"]


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
    plan = "\n".join(row[0] for row in postgres.execute(f"EXPLAIN {PURGE_KEYS}", {"kept": KEPT, "limit": 1000}))
    assert "Index Scan using ix_idempotency_keys_created_at" in plan
    assert "Tid Scan" in plan
    assert "Seq Scan" not in plan
