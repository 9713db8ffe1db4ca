"""How the whole installation is, read from PostgreSQL, so it can be asked from anywhere.

Ages and moments are by PostgreSQL's clock, so that nothing depends on the reader's.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeVar, cast

import psycopg
from psycopg.rows import class_row, scalar_row

from projector import backlog
from projector.backlog import OutboxStatus
from projector.connection import SERVER_MARGIN_SECONDS
from projector.relay import HEARTBEAT_SECONDS
from projector.settings import ProjectorSettings
from shared.postgres import connect
from shared.settings import Settings

STATUS_TIMEOUT_MILLISECONDS: Final = 5_000
# A table that is locked so that it cannot be read stays so for longer than anybody waits here.
LOCK_TIMEOUT_MILLISECONDS: Final = 1_000

# A lane beats when it is idle and with every batch.
BEATS_MISSED: Final = 3

NOW: Final = "SELECT clock_timestamp()"

# A row per lane: a process is as silent as its most silent lane, and has ended once all of them have.
PROJECTORS: Final = """
    SELECT regexp_replace(name, ' lane [0-9]+$', '') AS name,
        CASE WHEN bool_and(ended_at IS NOT NULL) THEN 'ended'
             WHEN clock_timestamp() - min(heartbeat) > make_interval(secs => %(silence)s) THEN 'silent'
             ELSE 'at work' END AS state,
        extract(epoch FROM clock_timestamp() - min(heartbeat))::float8 AS heartbeat_age_seconds,
        count(*) AS lanes, sum(settled)::bigint AS settled,
        max(batch_seconds) AS batch_seconds, max(usual_batch_seconds) AS usual_batch_seconds
    FROM projectors
    GROUP BY 1 HAVING max(heartbeat) > clock_timestamp() - interval '1 hour'
    ORDER BY state, name
"""

# Of each read model the newest replay, at work or ended. PostgreSQL's clock says for how long nothing has moved.
LATEST_REPLAYS: Final = """
    SELECT DISTINCT ON (aggregate_type) id, aggregate_type, state, copied, expected, error,
        ended_at IS NULL AS is_at_work,
        extract(epoch FROM coalesce(ended_at, clock_timestamp()) - started_at)::float8 AS seconds,
        extract(epoch FROM clock_timestamp() - updated_at)::float8 AS idle_seconds
    FROM replays ORDER BY aggregate_type, id DESC
"""

# The most that any verification found since the last one of the whole, that one included: a sample that sees other
# documents and finds nothing does not say that what an earlier one found is mended.
DRIFT: Final = """
    SELECT aggregate_type, max(missing) AS missing, max(stale) AS stale, max(orphaned) AS orphaned,
        max(different) AS different, (array_agg(kind ORDER BY id DESC))[1] AS kind,
        (array_agg(compared ORDER BY id DESC))[1] AS compared,
        extract(epoch FROM clock_timestamp() - max(ended_at))::float8 AS age_seconds
    FROM verifications AS found
    WHERE id >= coalesce((
        SELECT max(id) FROM verifications WHERE kind = 'whole' AND aggregate_type = found.aggregate_type
    ), 0)
    GROUP BY aggregate_type ORDER BY aggregate_type
"""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class ProjectorProcess:
    """A projector, and how many messages it has settled since it started; batches in seconds."""

    name: str
    state: Literal["at work", "silent", "ended"]
    heartbeat_age_seconds: float
    lanes: int
    settled: int
    batch_seconds: float | None
    usual_batch_seconds: float | None


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """How far the newest replay of a read model is: rows copied of those expected, and how long it took until now."""

    id: int
    aggregate_type: str
    state: str
    copied: int
    expected: int
    error: str | None
    is_at_work: bool
    seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class DriftFound:
    """What verifications found of a read model; what the last of them compared, and how long ago it ended."""

    aggregate_type: str
    missing: int
    stale: int
    orphaned: int
    different: int
    kind: Literal["whole", "sample"]
    compared: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole installation at a moment."""

    at: datetime
    outbox: OutboxStatus
    projectors: Sequence[ProjectorProcess]
    replays: Sequence[ReplayProgress]
    drift: Sequence[DriftFound]

    def as_json(self) -> dict[str, Any]:
        """Return it as one object, what is not settled at its top."""
        values = asdict(self)
        return {"at": values.pop("at").isoformat(), **values.pop("outbox"), **values}


def read_status(settings: Settings, name: str = "kata-status") -> OutboxStatus:
    """Return backlog, lag and failures. Raises psycopg.Error when PostgreSQL is away or not migrated."""
    with _connect(settings, name, STATUS_TIMEOUT_MILLISECONDS) as connection:
        return backlog.status(connection)


def read_overview(
    settings: ProjectorSettings, name: str = "kata-status", *, milliseconds: int = STATUS_TIMEOUT_MILLISECONDS
) -> Overview:
    """Return everything, no statement of which takes longer than `milliseconds`. Raises as read_status does."""
    with _connect(settings, name, milliseconds) as connection:
        return Overview(
            at=cast("datetime", connection.cursor(row_factory=scalar_row).execute(NOW).fetchone()),
            outbox=backlog.status(connection),
            projectors=_rows(connection, ProjectorProcess, PROJECTORS, silence=silence(settings)),
            replays=_rows(connection, ReplayProgress, LATEST_REPLAYS),
            drift=_rows(connection, DriftFound, DRIFT),
        )


def silence(settings: ProjectorSettings) -> float:
    """Return for how many seconds a lane that works may say nothing."""
    return max(
        HEARTBEAT_SECONDS * BEATS_MISSED, settings.batch_deadline_seconds + SERVER_MARGIN_SECONDS + HEARTBEAT_SECONDS
    )


def throughput(before: Overview, after: Overview) -> float:
    """Return how many messages were settled per second between two overviews."""
    seconds = (after.at - before.at).total_seconds()
    known = {projector.name: projector.settled for projector in before.projectors}
    # A projector that is new has settled all of its messages since; one that is forgotten settles no more.
    settled = sum(max(0, projector.settled - known.get(projector.name, 0)) for projector in after.projectors)
    return settled / seconds if seconds > 0 else 0.0


def _connect(settings: Settings, name: str, milliseconds: int) -> psycopg.Connection:
    lock_timeout = min(LOCK_TIMEOUT_MILLISECONDS, milliseconds)
    return connect(settings, name, autocommit=True, statement_timeout=milliseconds, lock_timeout=lock_timeout)


def _rows(connection: psycopg.Connection, row: type[Row], statement: str, **parameters: float) -> list[Row]:
    return connection.cursor(row_factory=class_row(row)).execute(statement.encode(), parameters).fetchall()
