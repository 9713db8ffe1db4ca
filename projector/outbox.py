"""All SQL on the outbox that a lane needs: claim and settle. What others ask is in projector/backlog.py.

Claim and settle are two ends of one transaction. The claim deletes and returns; the deletion commits only after
MongoDB has acknowledged, so a projector that dies in between leaves every message where it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Final, cast

import psycopg
from psycopg.adapt import Loader
from psycopg.rows import args_row, class_row

from projector import failures, lanes
from projector.failures import Failure
from shared.history import HISTORY
from shared.mongo_time import MongoTime
from shared.outbox.message import ARRAYS, COLUMNS, OutboxMessage, as_arrays
from shared.postgres import DEAD_CHANNEL, SETTLED_CHANNEL, plain_array

# PostgreSQL refuses a notification of 8,000 bytes or more.
NOTIFICATION_BYTES: Final = 7_900  # and a history

# The subquery is an ARRAY so that the planner deletes by primary key. `id > after` keeps the scan off the dead rows
# of settled messages, which a long transaction elsewhere can pin by the million.
CLAIM: Final = f"""
    DELETE FROM outbox WHERE id = ANY(ARRAY(
        SELECT id FROM outbox WHERE id > %(after)s ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )) RETURNING {COLUMNS}
"""

# The same by the partial index of messages that a client waits for, so that they overtake a bulk import.
CLAIM_AWAITED: Final = f"""
    DELETE FROM outbox WHERE id = ANY(ARRAY(
        SELECT id FROM outbox WHERE awaited AND id > %(after)s ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )) RETURNING {COLUMNS}
"""

CLAIM_ONE: Final = f"""
    DELETE FROM outbox WHERE id = (SELECT id FROM outbox WHERE id = %(id)s FOR UPDATE SKIP LOCKED) RETURNING {COLUMNS}
"""

# An effect that is not finished keeps its message, with the cursor where it stands.
KEEP: Final = f"INSERT INTO outbox ({COLUMNS}) SELECT * FROM unnest({ARRAYS})"

# Settling a version makes older failures of the same aggregate pointless: the event carries the full state. A repair
# has rewritten its own version as well. With them goes the row of a message that had failed and is settled now.
SUPERSEDE: Final = """
    DELETE FROM outbox_failures AS failure
    USING unnest(%(types)s::text[], %(ids)s::bigint[], %(below)s::bigint[], %(messages)s::bigint[])
        AS settled (type, id, below, message)
    WHERE failure.aggregate_type = settled.type
      AND failure.aggregate_id = settled.id
      AND (failure.aggregate_version < settled.below OR failure.id = settled.message)
    RETURNING failure.id
"""

# Before the ids comes the history in which they mean these messages.
NOTIFY: Final = f"""
    SELECT count(pg_notify(%(channel)s, {HISTORY} || ' ' || payload))
    FROM installation, unnest(%(payloads)s::text[]) AS payload
"""

# All that a batch which went well has to say, at once: a client may wait for it.
SETTLE: Final = f"""
    WITH superseded AS ({SUPERSEDE})
    {lanes.ADVANCE},
        (SELECT count(*) FROM superseded WHERE id <> ALL(%(messages)s::bigint[])) AS superseded,
        ({NOTIFY}) AS notifications
"""

# A settlement that PostgreSQL loses when it crashes puts its messages back, and they are delivered again; what MongoDB
# acknowledged stays. So nobody has to wait until it is on the disk.
# Every statement of a lane finds its rows by an index, in the index's order. So one plan is right however many rows
# there are, and is made once: made for each batch, plans took a quarter of the time that a single message spends here.
# Without the other three, a plan kept from the time when the outbox was empty would read all of it for each batch.
RELAY: Final = """
    SET synchronous_commit = off; SET plan_cache_mode = force_generic_plan;
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off
"""


class RawJsonLoader(Loader):
    """Leaves JSON as the bytes that PostgreSQL sent: the payload is decoded once, by the event's own contract."""

    def load(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return the bytes."""
        return bytes(data)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of every message of a batch. Each claimed message is in exactly one of the three."""

    settled: Sequence[OutboxMessage]
    failed: Mapping[OutboxMessage, Failure]
    unfinished: Mapping[OutboxMessage, int]

    @property
    def dead(self) -> list[OutboxMessage]:
        """Those of the failed that are dead letters now."""
        return [message for message, failure in self.failed.items() if failure.is_dead]


@dataclass(frozen=True, slots=True)
class Recorded:
    """When a batch was settled, by PostgreSQL's clock; how many older failures went with it, and notifications out."""

    at: datetime
    superseded: int
    notifications: int


def prepare(connection: psycopg.Connection) -> None:
    """Make `connection` fit for claiming: JSON comes as bytes."""
    connection.adapters.register_loader("jsonb", RawJsonLoader)


def prepare_to_relay(connection: psycopg.Connection) -> None:
    """Make this session a lane's: its commits return before they are on the disk, and its plans are kept."""
    connection.execute(RELAY)


def claim(connection: psycopg.Connection, *, after: int, limit: int) -> list[OutboxMessage]:
    """Take up to `limit` messages with an id above `after` out of the outbox, in id order."""
    return _claim(connection, CLAIM, after, limit)


def claim_awaited(connection: psycopg.Connection, *, after: int, limit: int) -> list[OutboxMessage]:
    """Take up to `limit` messages that a client waits for, with an id above `after`, in id order."""
    return _claim(connection, CLAIM_AWAITED, after, limit)


def claim_one(connection: psycopg.Connection, message_id: int) -> list[OutboxMessage]:
    """Take this message, unless it is gone or another lane has it. Its attempts are those before the present one."""
    cursor = connection.cursor(row_factory=class_row(OutboxMessage))
    found = cursor.execute(CLAIM_ONE, {"id": message_id}).fetchall() or failures.claim_one(connection, message_id)
    return [replace(message, attempts=message.attempts - 1) for message in found]


def _claim(connection: psycopg.Connection, statement: str, after: int, limit: int) -> list[OutboxMessage]:
    cursor = connection.cursor(row_factory=args_row(OutboxMessage))
    found = cursor.execute(statement, {"after": after, "limit": limit}).fetchall()
    # DELETE returns in any order; the ids decide.
    return sorted(found, key=attrgetter("id"))


def settle(
    connection: psycopg.Connection,
    settlement: Settlement,
    lane: str,
    time: MongoTime | None,
    seconds: float | None = None,
) -> Recorded:
    """Record what became of each message of the batch and tell those who wait. The caller commits.

    `time` is MongoDB's after the batch's last operation, `seconds` what the batch took so far.
    """
    cursor = connection.cursor(row_factory=class_row(Recorded))
    settled = settlement.settled
    cursor.execute(
        SETTLE,
        {
            **lanes.advance(lane, time, settled=len(settled), seconds=seconds),
            "types": plain_array(message.aggregate_type for message in settled),
            "ids": plain_array(message.aggregate_id for message in settled),
            "below": plain_array(message.aggregate_version + message.is_repair for message in settled),
            "messages": plain_array(message.id for message in settled),
            "channel": SETTLED_CHANNEL,
            "payloads": list(notification_payloads(message.id for message in settled if message.awaited)),
        },
    )
    recorded = cast("Recorded", cursor.fetchone())
    if settlement.unfinished:
        kept = (message.as_columns() | {"cursor": reached} for message, reached in settlement.unfinished.items())
        connection.execute(KEEP, as_arrays(kept))
        failures.go_on(connection, [message.id for message in settlement.unfinished])
    if settlement.failed:
        failures.record(connection, settlement.failed)
    if dead := list(notification_payloads(message.id for message in settlement.dead)):
        connection.execute(NOTIFY, {"channel": DEAD_CHANNEL, "payloads": dead})
    return recorded


def notification_payloads(ids: Iterable[int]) -> Iterator[str]:
    """Yield the ids as comma-separated lists, each short enough for one notification."""
    payload = ""
    for message_id in ids:
        longer = f"{payload},{message_id}" if payload else str(message_id)
        if len(longer) > NOTIFICATION_BYTES:
            yield payload
            longer = str(message_id)
        payload = longer
    if payload:
        yield payload
