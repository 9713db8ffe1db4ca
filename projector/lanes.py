"""All SQL on `projectors` that a running lane needs: that it is alive, and up to where MongoDB has what it settled.

Lanes that have gone without a word are the business of projector/suspects.py.
"""

from typing import Final

import psycopg
from psycopg.rows import class_row

from projector.prepared import Value
from shared.mongo_time import MongoTime

# Up to where MongoDB has what this lane settled, for reads with a consistency token; and that the lane is alive.
ADVANCE: Final = """
    INSERT INTO projectors (name, operation_time, cluster_time, settled, batch_seconds, usual_batch_seconds)
    VALUES (%(name)s, %(operation_time)s, %(cluster_time)s, %(settled)s, %(seconds)s, %(seconds)s)
    ON CONFLICT (name) DO UPDATE SET heartbeat = clock_timestamp(), ended_at = NULL,
        operation_time = coalesce(excluded.operation_time, projectors.operation_time),
        cluster_time = coalesce(excluded.cluster_time, projectors.cluster_time),
        settled = projectors.settled + excluded.settled,
        batch_seconds = coalesce(excluded.batch_seconds, projectors.batch_seconds),
        usual_batch_seconds = coalesce(
            projectors.usual_batch_seconds + (excluded.batch_seconds - projectors.usual_batch_seconds) / 10,
            projectors.usual_batch_seconds, excluded.batch_seconds)
    RETURNING clock_timestamp() AS at
"""

END: Final = "UPDATE projectors SET ended_at = clock_timestamp() WHERE name = %(name)s"

# The newest time outlives its lane: tokens of what it settled go on being honoured.
FORGET: Final = """
    DELETE FROM projectors
    WHERE heartbeat < clock_timestamp() - interval '1 day'
      AND operation_time IS DISTINCT FROM (SELECT max(operation_time) FROM projectors)
"""

# Up to where MongoDB has what is settled.
SETTLED_TIME: Final = """
    SELECT operation_time, cluster_time FROM projectors
    WHERE operation_time IS NOT NULL ORDER BY operation_time DESC LIMIT 1
"""


def advance(lane: str, time: MongoTime | None, *, settled: int, seconds: float | None) -> dict[str, Value]:
    """Return the parameters of ADVANCE: MongoDB's time, how much the lane has settled, and after how long."""
    return {
        "name": lane,
        "operation_time": time.operation_time if time else None,
        "cluster_time": time.cluster_time if time else None,
        "settled": settled,
        "seconds": seconds,
    }


def beat(connection: psycopg.Connection, lane: str) -> None:
    """Record that the lane is alive."""
    connection.execute(ADVANCE, advance(lane, None, settled=0, seconds=None))


def end(connection: psycopg.Connection, lane: str) -> None:
    """Record that the lane has ended, with nothing in hand."""
    connection.execute(END, {"name": lane})


def forget(connection: psycopg.Connection) -> None:
    """Forget the lanes that ended long ago."""
    connection.execute(FORGET)


def settled_time(connection: psycopg.Connection) -> MongoTime | None:
    """Return MongoDB's time after the last settled batch of any projector, None before the first."""
    return connection.cursor(row_factory=class_row(MongoTime)).execute(SETTLED_TIME).fetchone()
