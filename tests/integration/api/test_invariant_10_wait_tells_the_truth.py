"""Invariant 10: a waiter is resolved only by the settling commit, or by a snapshot that was taken after arming."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from api.consistency.settlements import Settlements
from projector.relay import Relay
from shared.postgres import SETTLED_CHANNEL
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.statements import before_each_statement
from tests.fixtures.waiting import wait_until

ADA = {"name": "Ada", "email": "ada@example.org"}
GRACE = {"name": "Grace", "email": "grace@example.org"}
TOKEN = "Consistency-Token"
HOLD_COMMITS = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON outbox
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold();
"""
HELD = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
REFUSE_SETTLING = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE lock_not_available; END $$;
    CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON projectors
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
"""
COLUMNS = "id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, created_at"
FAIL = f"""
    WITH gone AS (DELETE FROM outbox RETURNING {COLUMNS})
    INSERT INTO outbox_failures ({COLUMNS}, state, attempts, error) SELECT {COLUMNS}, 'dead', 1, 'refused' FROM gone
"""
RETRY = f"""
    WITH gone AS (DELETE FROM outbox_failures RETURNING {COLUMNS})
    INSERT INTO outbox ({COLUMNS}) SELECT {COLUMNS} FROM gone
"""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads of clients."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def test_a_check_while_a_commit_is_on_its_way_answers_nobody(
    make_api: Callable[..., ApiClient],
    relay: Relay,
    postgres: psycopg.Connection,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The row is in no snapshot yet: to whoever waited already it would seem settled.
    relay.run_once()  # the read models are this installation's
    checks, check = list[None](), Settlements._check_waiting  # noqa: SLF001 - how often it has looked

    async def counted(self: Settlements, *arguments: Any) -> None:
        await check(self, *arguments)
        checks.append(None)

    monkeypatch.setattr(Settlements, "_check_waiting", counted)
    monkeypatch.setattr("api.consistency.settlements.CHECK_SECONDS", 0.01)
    api = make_api()
    postgres.execute(HOLD_COMMITS)
    postgres.execute("SELECT pg_advisory_lock(1)")
    answer = pool.submit(api.post, "/users", json=ADA, headers={"Prefer": "wait=1"})
    wait_until(lambda: postgres.execute(HELD).fetchone() == (1,), "the commit is held")
    before = len(checks)
    wait_until(lambda: len(checks) >= before + 2, "a whole check was made meanwhile")
    postgres.execute("SELECT pg_advisory_unlock(1)")

    assert answer.result(30).status_code == 202


def test_a_write_that_commits_after_the_snapshot_of_a_check_is_not_answered_by_it(
    make_api: Callable[..., ApiClient], relay: Relay, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay.run_once()  # the read models are this installation's
    api = make_api()
    settlements: Settlements = api.app.state.settlements
    execute, snapshots = psycopg.AsyncConnection.execute, list[str]()

    async def held(self: psycopg.AsyncConnection[Any], query: Any, *arguments: Any, **options: Any) -> Any:
        cursor = await execute(self, query, *arguments, **options)
        if "outbox_failures" in str(query) and not snapshots:
            snapshots.append("taken")
            await asyncio.to_thread(wait_until, lambda: settlements.waiting == 2, "somebody else waits by now")
        return cursor

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", held)
    first = pool.submit(api.post, "/users", json=ADA, headers={"Prefer": "wait=30"})
    wait_until(lambda: snapshots, "a check has taken its snapshot")
    second = pool.submit(api.post, "/users", json=GRACE, headers={"Prefer": "wait=1"})

    assert second.result(30).status_code == 202
    drain(relay)
    assert first.result(30).status_code == 201


def test_a_settling_that_is_rolled_back_tells_nobody(
    relay: Relay, outbox: Outbox, postgres: psycopg.Connection
) -> None:
    relay.run_once()
    outbox.user(1, awaited=True)
    postgres.execute(REFUSE_SETTLING)
    postgres.execute(f"LISTEN {SETTLED_CHANNEL}")

    with pytest.raises(psycopg.errors.LockNotAvailable):
        relay.run_once()

    # Notifications come in the order of their commits.
    postgres.execute("SELECT pg_notify(%s, 'the last')", (SETTLED_CHANNEL,))
    assert [told.payload for told in postgres.notifies(timeout=20, stop_after=1)] == ["the last"]


@pytest.mark.parametrize("place", ["outbox", "outbox_failures"])
def test_a_message_that_moves_between_the_tables_is_never_taken_for_settled(
    unprojected: httpx.Client, relay: Relay, postgres: psycopg.Connection, place: str
) -> None:
    relay.run_once()  # the read models are this installation's
    written = unprojected.post("/users", json=ADA)
    token = {TOKEN: written.headers[TOKEN], "Prefer": "wait=0"}
    unprojected.get("/users/1", headers=token)  # a process's first also looks whose the read models are
    if place == "outbox_failures":
        postgres.execute(FAIL)

    def move(statement: str) -> None:
        """Fail the message, or retry it, just before each look at it."""
        if "outbox" in statement and not postgres.execute(FAIL).rowcount:
            postgres.execute(RETRY)

    with before_each_statement(move):
        answer = unprojected.get("/users/1", headers=token)

    assert answer.status_code == 503
    assert answer.json()["type"].startswith("urn:kata:problem:projection-")
