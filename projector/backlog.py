"""All SQL that asks what is not settled, and changes nothing: backlog and lag, what is on its way, what has failed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import psycopg
from psycopg.rows import class_row, scalar_row

# Lag is the AGE of the oldest message that is not settled. Dead letters are counted apart and do not age it.
STATUS: Final = """
    WITH unsettled AS (
        SELECT created_at FROM outbox
        UNION ALL
        SELECT created_at FROM outbox_failures WHERE state = 'retrying'
    )
    SELECT
        (SELECT count(*) FROM unsettled) AS backlog,
        coalesce(
            (SELECT greatest(extract(epoch FROM clock_timestamp() - min(created_at)), 0) FROM unsettled), 0
        )::float8 AS lag_seconds,
        (SELECT count(*) FROM outbox_failures WHERE state = 'retrying') AS failures,
        (SELECT count(*) FROM outbox_failures WHERE state = 'dead') AS dead_letters
"""

IN_FLIGHT: Final = """
    SELECT DISTINCT aggregate_id FROM (
        SELECT aggregate_id FROM outbox WHERE aggregate_type = %(type)s AND aggregate_id = ANY(%(ids)s)
        UNION ALL
        SELECT aggregate_id FROM outbox_failures
        WHERE aggregate_type = %(type)s AND aggregate_id = ANY(%(ids)s) AND state = 'retrying'
    ) AS messages
"""

# Whatever its state: a dead letter may be retried, and a discarded one is still not settled.
UNSETTLED: Final = """
    SELECT aggregate_id FROM outbox WHERE aggregate_type = %(type)s AND aggregate_id = ANY(%(ids)s)
    UNION
    SELECT aggregate_id FROM outbox_failures WHERE aggregate_type = %(type)s AND aggregate_id = ANY(%(ids)s)
"""


# The newest message that nobody delivers any more, of each of the aggregates.
FAILED_FOR_GOOD: Final = """
    SELECT aggregate_id, max(id) FROM outbox_failures
    WHERE aggregate_type = %(type)s AND aggregate_id = ANY(%(ids)s) AND state IN ('dead', 'discarded')
    GROUP BY aggregate_id
"""


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """What is not settled: counts, and the age of the oldest in seconds."""

    backlog: int
    lag_seconds: float
    failures: int
    dead_letters: int


def status(connection: psycopg.Connection) -> OutboxStatus:
    """Return backlog, lag and failures as they are now."""
    row = connection.cursor(row_factory=class_row(OutboxStatus)).execute(STATUS).fetchone()
    return cast("OutboxStatus", row)


def in_flight(connection: psycopg.Connection, aggregate_type: str, ids: Sequence[int]) -> set[int]:
    """Return which of the aggregates still have messages on their way."""
    cursor = connection.cursor(row_factory=scalar_row)
    return set(cursor.execute(IN_FLIGHT, {"type": aggregate_type, "ids": list(ids)}))


def unsettled(connection: psycopg.Connection, aggregate_type: str, ids: Sequence[int]) -> set[int]:
    """Return which of the aggregates have any row in either outbox table."""
    cursor = connection.cursor(row_factory=scalar_row)
    return set(cursor.execute(UNSETTLED, {"type": aggregate_type, "ids": list(ids)}))


def failed_for_good(connection: psycopg.Connection, aggregate_type: str, ids: Sequence[int]) -> dict[int, int]:
    """Return the dead or discarded message of those of the aggregates that have one."""
    return dict(connection.execute(FAILED_FOR_GOOD, {"type": aggregate_type, "ids": list(ids)}).fetchall())
