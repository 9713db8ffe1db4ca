"""Dead rows that a long transaction keeps, and plans from the time when a table was empty, do not slow the relay down.

The long form, with a million messages, is `make bloat`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest

from api.settings import ApiSettings
from benchmarks.bloat import LIVE, Touched, measure, pinned_horizon
from projector.handshake import TAKE
from projector.relay import Relay
from shared.history import INCARNATION
from tests.fixtures.clients import serving
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.waiting import wait_until

ADA = {"name": "Ada", "email": "ada@example.org"}

SIZES = (2_000, 10_000, 20_000)
# A page more per message, at the very most: a message lies on one, or on two next to each other.
SLACK = LIVE

FLAT = (
    "claim",
    "claim of awaited messages",
    "a token's message",
    "what became of waited-for messages",
)
WALKS = ("sweep", "sweep of awaited messages")

COUNTERS = "SELECT seq_tup_read, n_tup_del, coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'outbox'"
BURST = 5_000


@pytest.fixture(scope="module")
def touched(create_database: Callable[[str | None], str], template: str) -> dict[int, Touched]:
    """What the statements touch after so many messages were settled while the horizon was pinned."""
    return dict(measure(create_database(template), SIZES))


def pages(touched: dict[int, Touched], statement: str) -> list[int]:
    return [touched[size][statement][0] for size in SIZES]


@pytest.mark.parametrize("statement", FLAT)
def test_a_statement_touches_as_many_pages_however_much_was_settled(
    touched: dict[int, Touched], statement: str
) -> None:
    assert max(pages(touched, statement)) <= pages(touched, statement)[0] + SLACK


@pytest.mark.parametrize("statement", WALKS)
def test_a_sweep_walks_over_everything_settled_which_is_why_it_comes_rarely(
    touched: dict[int, Touched], statement: str
) -> None:
    first, *_, last = pages(touched, statement)
    assert last > 5 * first


@dataclass(frozen=True)
class Counters:
    """What the server counts of the outbox: rows read one after the other, rows deleted, looks into an index."""

    read_in_sequence: int
    deleted: int
    looked_up: int


def counters(postgres: psycopg.Connection) -> Counters:
    """Return the counts; those of a session are complete once it has ended."""
    postgres.execute("SELECT pg_stat_force_next_flush()")
    row = postgres.execute(COUNTERS).fetchone()
    assert row
    return Counters(*row)


def empty_as_after_idle_hours(postgres: psycopg.Connection) -> None:
    """Leave the outbox without a page: nothing is cheaper than to read all of it."""
    postgres.execute("VACUUM ANALYZE outbox")


def test_a_burst_after_idle_hours_is_claimed_by_the_index(
    make_relay: Callable[..., Relay], outbox: Outbox, postgres: psycopg.Connection
) -> None:
    relay = make_relay(batch_size=500)
    empty_as_after_idle_hours(postgres)
    for _ in range(20):  # the statements are prepared, and a plan for any parameters may be kept
        relay.run_once()
    outbox.bulk(BURST)
    before = counters(postgres)

    assert drain(relay).settled == BURST
    relay.close()

    wait_until(lambda: counters(postgres).deleted >= before.deleted + BURST, "the session's counts have arrived")
    # A plan that reads the table does so for every batch.
    assert counters(postgres).read_in_sequence - before.read_in_sequence < BURST


def test_a_token_is_looked_up_by_the_index_in_a_burst_after_idle_hours(
    api_settings: ApiSettings, outbox: Outbox, relay: Relay, postgres: psycopg.Connection
) -> None:
    with serving(api_settings.model_copy(update={"default_wait_seconds": 0, "database_pool_size": 1})) as api:
        token = {"Consistency-Token": api.post("/users", json=ADA).headers["Consistency-Token"]}
        drain(relay)
        empty_as_after_idle_hours(postgres)
        for _ in range(20):
            assert api.get("/users/1", headers=token).status_code == 200
        outbox.bulk(BURST, first=2)
        before = counters(postgres)
        for _ in range(10):
            assert api.get("/users/1", headers=token).status_code == 200

    wait_until(lambda: counters(postgres).looked_up >= before.looked_up + 10, "the session's counts have arrived")
    assert counters(postgres).read_in_sequence - before.read_in_sequence < BURST


def test_handshakes_make_no_command_and_no_batch_slower(
    create_database: Callable[[str | None], str], template: str
) -> None:
    """Each reads `installation`; the number that is written several times a second is elsewhere."""
    dsn = create_database(template)
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT {INCARNATION} FROM installation"
    with psycopg.connect(dsn, autocommit=True) as connection, pinned_horizon(dsn):

        def pages_read() -> int:
            row = connection.execute(explain.encode()).fetchone()
            assert row
            return int(row[0][0]["Plan"]["Shared Hit Blocks"])

        before = pages_read()
        for _ in range(1000):
            connection.execute(TAKE.encode())
        assert pages_read() <= before
