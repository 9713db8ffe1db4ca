"""All SQL on `replays`, and what every batch looks at under the lock: whose read models these are, who rebuilds them.

A row is written by the process that replays. It ends in `done`, `failed` or `cancelled` while nobody else writes the
read models, so no batch ever writes to a shadow that is no more. In which shape documents are made is said here, too,
see projector/shapes.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import psycopg
from psycopg.rows import class_row, dict_row

from projector.prepared import Prepared
from projector.shapes import REFUSED, ShapeError, known_shapes, shape_error
from shared.history import INCARNATION
from shared.installation import NotMigratedError
from shared.postgres import READ_MODELS_LOCK, REPLAY_LOCK
from shared.read_models import ReadModel

State = Literal["copying", "verifying", "swapping", "done", "failed", "cancelled"]

# Of an error an operator needs the beginning.
ERROR_LENGTH: Final = 1_000

# Before the copy of rows has begun: tombstones come first.
TOMBSTONES: Final = -1

# The lock comes in a statement of its own: what is read after it is seen by a snapshot taken under it.
LOCK_READ_MODELS: Final = f"SELECT pg_advisory_xact_lock_shared({READ_MODELS_LOCK})"

HELD: Final = Prepared(
    "held",
    f"""
    SELECT {INCARNATION} AS incarnation, replay.id, replay.aggregate_type, replay.shadow, replay.state, refused.*
    FROM installation
    LEFT JOIN replays AS replay ON replay.ended_at IS NULL
    LEFT JOIN LATERAL ({REFUSED}) AS refused ON true
    """,
)

AT_WORK: Final = "SELECT {columns} FROM replays WHERE ended_at IS NULL"

REGISTER: Final = """
    INSERT INTO replays (aggregate_type, shadow, shadow_uuid, shape, takes_back, state, cursor, copied, expected)
    VALUES (%(aggregate_type)s, %(shadow)s, %(shadow_uuid)s, %(shape)s, %(takes_back)s, 'copying', %(cursor)s, 0,
            %(expected)s)
"""

ADVANCE: Final = """
    UPDATE replays SET cursor = %(cursor)s, copied = copied + %(rows)s, updated_at = clock_timestamp()
    WHERE id = %(id)s AND state = 'copying'
"""

MOVE: Final = """
    UPDATE replays SET state = %(state)s, error = %(error)s, updated_at = clock_timestamp(),
        ended_at = CASE WHEN %(state)s IN ('done', 'failed') THEN clock_timestamp() END
    WHERE id = %(id)s AND ended_at IS NULL RETURNING id
"""

TOUCH: Final = """
    UPDATE replays SET updated_at = clock_timestamp() WHERE id = %(id)s AND ended_at IS NULL RETURNING id
"""

TRY_TURN: Final = "SELECT pg_try_advisory_lock(%(key)s)"
END_TURN: Final = "SELECT pg_advisory_unlock(%(key)s)"

# Who holds the turn, and what is at work; nobody when the turn ended in this moment.
WHO: Final = """
    SELECT activity.pid, activity.application_name AS name, host(activity.client_addr) AS address,
           replay.aggregate_type, to_char(coalesce(replay.started_at, activity.backend_start),
                                          'YYYY-MM-DD HH24:MI:SS TZ') AS since
    FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
    LEFT JOIN replays AS replay ON replay.ended_at IS NULL
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = 0 AND objid = %(key)s AND objsubid = 1 AND granted
"""


class ReplayError(RuntimeError):
    """A replay that cannot begin or go on. The message says why and, where there is one, names the remedy."""


class ReplayCancelledError(ReplayError):
    """The replay at work was cancelled by somebody else."""

    def __init__(self) -> None:
        super().__init__("the replay was cancelled; the read models are as they were")


class SwapUnfinishedError(RuntimeError):
    """A replay died while it swapped. Whoever connects next finishes that first."""

    def __init__(self) -> None:
        super().__init__("a replay ended in the middle of its swap, which is finished first")


@dataclass(frozen=True, slots=True)
class Shadow:
    """The collection that batches write beside the live one, and the replay that builds it."""

    replay_id: int
    aggregate_type: str
    name: str


@dataclass(frozen=True, slots=True)
class Held:
    """What a batch knows of the read models that it holds."""

    incarnation: UUID
    shadow: Shadow | None


@dataclass(frozen=True, slots=True)
class ReplayAtWork:
    """A replay that has not ended. `cursor` is the last id it has copied, `copied` and `expected` count rows."""

    id: int
    aggregate_type: str
    shadow: str
    shadow_uuid: UUID
    shape: int
    state: State
    cursor: int
    copied: int
    expected: int
    started_at: datetime


@contextmanager
def expecting_tables() -> Iterator[None]:
    """Raise NotMigratedError in place of the server's complaint that a table is missing."""
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise NotMigratedError from error


def hold_read_models(connection: psycopg.Connection, *, tolerated: tuple[type[ShapeError], ...] = ()) -> Held:
    """Hold the read models until this transaction ends; return what is so under the lock.

    Raises NotMigratedError when there are no tables, ShapeError when this code must not write documents, unless the
    reason is `tolerated`, and SwapUnfinishedError when a swap has to be finished first.
    """
    connection.execute(LOCK_READ_MODELS)
    with expecting_tables():
        row = connection.cursor(row_factory=dict_row).execute(HELD.statement, known_shapes()).fetchone()
    return held(row, tolerated=tolerated)


def held(row: Mapping[str, Any] | None, *, tolerated: tuple[type[ShapeError], ...] = ()) -> Held:
    """Return what HELD has found; it raises the same."""
    if row is None:
        raise NotMigratedError
    if row["refused_type"]:
        refused = shape_error(row["refused_type"], row["refused_shape"])
        if not isinstance(refused, tolerated):
            raise refused
    if row["state"] == "swapping":
        raise SwapUnfinishedError
    shadow = Shadow(row["id"], row["aggregate_type"], row["shadow"]) if row["id"] else None
    return Held(row["incarnation"], shadow)


def at_work(connection: psycopg.Connection) -> ReplayAtWork | None:
    """Return the replay that has not ended. Raises NotMigratedError when there are no tables."""
    statement = AT_WORK.format(columns=", ".join(field.name for field in fields(ReplayAtWork)))
    with expecting_tables():
        return connection.cursor(row_factory=class_row(ReplayAtWork)).execute(statement).fetchone()


def register(
    connection: psycopg.Connection,
    read_model: ReadModel,
    shadow: str,
    shadow_uuid: UUID,
    expected: int,
    *,
    takes_back: bool = False,
) -> None:
    """Record that a replay begins. To be called while alone with the read models: every batch after it knows.

    `takes_back` says that documents have had a newer shape before.
    """
    connection.execute(
        REGISTER,
        {
            "aggregate_type": read_model.aggregate_type,
            "shadow": shadow,
            "shadow_uuid": shadow_uuid,
            "shape": read_model.shape,
            "takes_back": takes_back,
            "cursor": TOMBSTONES,
            "expected": expected,
        },
    )


def advance(connection: psycopg.Connection, replay_id: int, *, cursor: int, rows: int) -> None:
    """Record that the copy has reached the id `cursor` and has read `rows` more."""
    connection.execute(ADVANCE, {"id": replay_id, "cursor": cursor, "rows": rows})


def touch(connection: psycopg.Connection, replay_id: int) -> None:
    """Record that the replay is alive. Raises ReplayCancelledError when it is no longer at work."""
    _if_at_work(connection.execute(TOUCH, {"id": replay_id}))


def move(connection: psycopg.Connection, replay_id: int, state: State, error: str | None = None) -> None:
    """Record the state. Raises ReplayCancelledError when the replay is no longer at work.

    Out of `verifying`, and to any end, it is moved only while alone with the read models.
    """
    parameters = {"id": replay_id, "state": state, "error": error and error[:ERROR_LENGTH]}
    _if_at_work(connection.execute(MOVE, parameters))


def _if_at_work(cursor: psycopg.Cursor[tuple[object, ...]]) -> None:
    if cursor.fetchone() is None:
        raise ReplayCancelledError


@contextmanager
def taking_turn(connection: psycopg.Connection) -> Iterator[None]:
    """Be the one process that replays. Raises ReplayError, which names the other one, when there is one."""
    taken = connection.execute(TRY_TURN, {"key": REPLAY_LOCK}).fetchone()
    if taken != (True,):
        raise ReplayError(_who(connection))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(END_TURN, {"key": REPLAY_LOCK})


def _who(connection: psycopg.Connection) -> str:
    row = connection.cursor(row_factory=dict_row).execute(WHO, {"key": REPLAY_LOCK}).fetchone()
    if row is None:
        return "another replay was at work just now: try again"
    what = f"a replay of {row['aggregate_type']}s" if row["aggregate_type"] else "a replay"
    where = f", from {row['address']}" if row["address"] else ""
    return (
        f"{what} is at work since {row['since']} ({row['name']}, session {row['pid']}{where}): "
        "wait for its end, or `projector replay --cancel`"
    )
