"""How the whole installation is, read from PostgreSQL, so it can be asked from anywhere."""

from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg.rows import class_row

from projector import outbox
from projector.outbox import OutboxStatus
from shared.postgres import connect
from shared.settings import Settings

STATUS_TIMEOUT_MILLISECONDS = 5_000

# Of each read model the newest replay, at work or ended. PostgreSQL's clock says for how long nothing has moved.
LATEST_REPLAYS: Final = """
    SELECT DISTINCT ON (aggregate_type) aggregate_type, state, copied, expected,
        extract(epoch FROM clock_timestamp() - updated_at)::float8 AS idle_seconds
    FROM replays ORDER BY aggregate_type, id DESC
"""

# The most that any verification found since the last one of the whole, that one included: a sample that sees other
# documents and finds nothing does not say that what an earlier one found is mended.
DRIFT: Final = """
    SELECT aggregate_type, max(missing) AS missing, max(stale) AS stale, max(orphaned) AS orphaned,
        max(different) AS different, extract(epoch FROM clock_timestamp() - max(ended_at))::float8 AS age_seconds
    FROM verifications AS found
    WHERE id >= coalesce((
        SELECT max(id) FROM verifications WHERE kind = 'whole' AND aggregate_type = found.aggregate_type
    ), 0)
    GROUP BY aggregate_type ORDER BY aggregate_type
"""


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """How far the newest replay of a read model is: rows copied of those expected."""

    aggregate_type: str
    state: str
    copied: int
    expected: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class DriftFound:
    """What verifications found of a read model, and how long ago the last of them ended."""

    aggregate_type: str
    missing: int
    stale: int
    orphaned: int
    different: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole installation at a moment."""

    outbox: OutboxStatus
    replays: list[ReplayProgress]
    drift: list[DriftFound]


def read_status(settings: Settings, name: str = "kata-status") -> OutboxStatus:
    """Return backlog, lag and failures. Raises psycopg.Error when PostgreSQL is away or not migrated."""
    with connect(settings, name, autocommit=True, statement_timeout=STATUS_TIMEOUT_MILLISECONDS) as connection:
        return outbox.status(connection)


def read_overview(settings: Settings, name: str, *, milliseconds: int) -> Overview:
    """Return everything, no statement of which takes longer than `milliseconds`. Raises as read_status does."""
    with connect(settings, name, autocommit=True, statement_timeout=milliseconds) as connection:
        return Overview(outbox.status(connection), _latest_replays(connection), _drift(connection))


def _latest_replays(connection: psycopg.Connection) -> list[ReplayProgress]:
    return connection.cursor(row_factory=class_row(ReplayProgress)).execute(LATEST_REPLAYS).fetchall()


def _drift(connection: psycopg.Connection) -> list[DriftFound]:
    return connection.cursor(row_factory=class_row(DriftFound)).execute(DRIFT).fetchall()
