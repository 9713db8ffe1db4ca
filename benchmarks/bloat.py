"""What the outbox's statements touch while a long transaction keeps every dead row: `make bloat`.

A session that began before pins the horizon: no vacuum may remove what was deleted after it, so every settled message
stays in the table and in its indexes. The statements are the product's own; EXPLAIN counts the pages they touch.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import psycopg
from bson import encode
from psycopg.rows import args_row

from devstack.applications import inherited_environment
from devstack.postgres import Postgres
from devstack.scratch import scratch_directory
from projector import backlog, lanes, outbox
from shared.mongo_time import MongoTime
from shared.outbox import lookup
from shared.outbox.message import OutboxMessage

ROOT: Final = Path(__file__).parents[1]
RESULT: Final = Path(__file__).parent / "evidence" / "bloat.md"

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
BATCH: Final = 1_000
# Of the messages that are on their way while it is measured.
LIVE: Final = 10

INSERT: Final = """
    INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload, awaited)
    SELECT 'user', n, 1, 'user.created', jsonb_build_object(
        'schema_version', 1, 'id', n, 'name', 'Ada', 'email', 'user' || n || '@example.org',
        'created_at', '2026-01-02T03:04:05.678Z', 'updated_at', '2026-01-02T03:04:05.678Z'), true
    FROM generate_series(1, %s) AS n
"""

Touched = Mapping[str, tuple[int, float]]


@contextmanager
def pinned_horizon(dsn: str) -> Iterator[None]:
    """Keep a transaction open that might still look at every row there is now."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT count(*) FROM outbox")
        yield


def settle(connection: psycopg.Connection, count: int, last: int = 0) -> int:
    """Append `count` messages and settle them as a relay does, in batches; return the last id."""
    while count > 0:
        size = min(BATCH, count)
        with connection.transaction():
            connection.execute(INSERT, (size,))
        with connection.transaction():
            messages = claim(connection, after=last, limit=size)
            last = messages[-1].id
            time_then = MongoTime(last, encode({"clusterTime": last}))
            connection.execute(outbox.SETTLE.statement, outbox.settling(messages, "bloat lane 0", time_then, None))
        count -= size
    return last


def claim(connection: psycopg.Connection, *, after: int, limit: int) -> list[OutboxMessage]:
    """Claim messages in id order."""
    cursor = connection.cursor(row_factory=args_row(OutboxMessage))
    found = cursor.execute(outbox.CLAIM.statement, {"after": after, "limit": limit}).fetchall()
    return sorted(found, key=attrgetter("id"))


def touched(connection: psycopg.Connection, last: int) -> Touched:
    """Return for each statement the pages it touches and its milliseconds, with some messages behind `last`."""
    with connection.transaction(force_rollback=True):
        connection.execute(INSERT, (LIVE,))
        return {name: _explain(connection, *each) for name, each in statements(last).items()}


def statements(last: int) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Return the statements that run often, by what they are for."""
    batch = {"after": last, "limit": BATCH}
    sweep = {"after": 0, "limit": BATCH}
    lane = {"name": "bloat lane 0", "operation_time": last, "cluster_time": b"\x00", "settled": BATCH, "seconds": 0.1}
    return {
        "claim": (outbox.CLAIM.statement, batch),
        "claim of awaited messages": (outbox.CLAIM_AWAITED.statement, batch),
        "sweep": (outbox.CLAIM.statement, sweep),
        "sweep of awaited messages": (outbox.CLAIM_AWAITED.statement, sweep),
        "a lane's row": (lanes.ADVANCE, lane),
        "a token's message": (lookup.LOOK_UP, {"id": last}),
        "what became of waited-for messages": (lookup.UNSETTLED, {"ids": list(range(last - 10, last))}),
        "age of the oldest message": (lookup.OLDEST_AGE, {}),
        "status": (backlog.STATUS, {}),
        "messages of some aggregates": (backlog.IN_FLIGHT, {"type": "user", "ids": [1, 2, 3]}),
    }


def _explain(connection: psycopg.Connection, statement: str, parameters: Mapping[str, Any]) -> tuple[int, float]:
    with connection.transaction(force_rollback=True):
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        [([explained],)] = connection.execute(explain.encode(), parameters)
    plan = explained["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], explained["Execution Time"]


def measure(dsn: str, sizes: Sequence[int]) -> Mapping[int, Touched]:
    """Return what is touched after so many messages were settled, none of which could be vacuumed."""
    found: dict[int, Touched] = {}
    with psycopg.connect(dsn, autocommit=True) as connection, pinned_horizon(dsn):
        outbox.prepare(connection)
        last = settled = 0
        for size in sizes:
            last = settle(connection, size - settled, last)
            settled = size
            found[size] = touched(connection, last)
    return found


def table(found: Mapping[int, Touched]) -> str:
    """Return the pages after each size as a Markdown table, with the milliseconds of the largest."""
    largest = found[max(found)]
    header = ["statement", *(f"{size:,} settled" for size in found), "milliseconds then"]
    rows = [header, ["---"] * len(header)]
    rows += [
        [name, *(f"{at[name][0]:,}" for at in found.values()), f"{milliseconds:.1f}"]
        for name, (_, milliseconds) in largest.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure on a server of its own and write the table."""
    with scratch_directory() as directory, Postgres.start(directory / "postgres") as postgres:
        environment = inherited_environment({"DATABASE_URL": postgres.dsn, "MIGRATION_DATABASE_URL": ""})
        subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=ROOT, env=environment, check=True)
        RESULT.write_text(table(measure(postgres.dsn, SIZES)) + "\n", encoding="utf-8")
    sys.stderr.write(f"{RESULT.relative_to(ROOT)} is written\n")


if __name__ == "__main__":
    main()
