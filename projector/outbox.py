"""All SQL on the outbox that a batch needs: claim and settle. What others ask is in projector/backlog.py.

Claim and settle are two ends of one transaction. The claim deletes and returns; the deletion commits only after
MongoDB has acknowledged, so a projector that dies in between leaves every message where it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import psycopg
from psycopg.adapt import Loader

from projector import failures, lanes
from projector.failures import Failure
from projector.prepared import Prepared, Value
from shared.history import HISTORY
from shared.mongo_time import MongoTime
from shared.outbox.message import ARRAYS, COLUMNS, OutboxMessage, as_arrays
from shared.postgres import DEAD_CHANNEL, SETTLED_CHANNEL, plain_array

# PostgreSQL refuses a notification of 8,000 bytes or more.
NOTIFICATION_BYTES: Final = 7_900  # and a history

# The subquery is an ARRAY so that the planner deletes by primary key. `id > after` keeps the scan off the dead rows
# of settled messages, which a long transaction elsewhere can pin by the million.
CLAIM: Final = Prepared(
    "claim",
    f"""
    DELETE FROM outbox WHERE id = ANY(ARRAY(
        SELECT id FROM outbox WHERE id > %(after)s ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )) RETURNING {COLUMNS}
    """,
)

# The same by the partial index of messages that a client waits for, so that they overtake a bulk import.
CLAIM_AWAITED: Final = Prepared(
    "claim_awaited",
    f"""
    DELETE FROM outbox WHERE id = ANY(ARRAY(
        SELECT id FROM outbox WHERE awaited AND id > %(after)s ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )) RETURNING {COLUMNS}
    """,
)

CLAIM_ONE: Final = Prepared(
    "claim_one",
    f"""
    DELETE FROM outbox WHERE id = (SELECT id FROM outbox WHERE id = %(id)s FOR UPDATE SKIP LOCKED) RETURNING {COLUMNS}
    """,
)

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
SETTLE: Final = Prepared(
    "settle",
    f"""
    WITH superseded AS ({SUPERSEDE})
    {lanes.ADVANCE},
        (SELECT count(*) FROM superseded WHERE id <> ALL(%(messages)s::bigint[])) AS superseded,
        ({NOTIFY}) AS notifications
    """,
)


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
    def has_exceptions(self) -> bool:
        """Whether there is one that is not settled."""
        return bool(self.failed or self.unfinished)

    @property
    def dead(self) -> list[OutboxMessage]:
        """Those of the failed that are dead letters now."""
        return [message for message, failure in self.failed.items() if failure.is_dead]


@dataclass(frozen=True, slots=True)
class Recorded:
    """When a batch was settled, by PostgreSQL's clock, and how many older failures went with it."""

    at: datetime
    superseded: int

    @classmethod
    def of_row(cls, at: datetime, superseded: int, _notifications: int) -> Self:
        """Return it from the row of SETTLE."""
        return cls(at, superseded)


def prepare(connection: psycopg.Connection) -> None:
    """Make `connection` fit for claiming: JSON comes as bytes."""
    connection.adapters.register_loader("jsonb", RawJsonLoader)


def settling(
    settled: Sequence[OutboxMessage], lane: str, time: MongoTime | None, seconds: float | None
) -> dict[str, Value]:
    """Return the parameters of SETTLE."""
    return {
        **lanes.advance(lane, time, settled=len(settled), seconds=seconds),
        "types": plain_array(message.aggregate_type for message in settled),
        "ids": plain_array(message.aggregate_id for message in settled),
        "below": plain_array(message.aggregate_version + message.is_repair for message in settled),
        "messages": plain_array(message.id for message in settled),
        "channel": SETTLED_CHANNEL,
        "payloads": plain_array(f'"{ids}"' for ids in notification_payloads(m.id for m in settled if m.awaited)),
    }


def record_exceptions(connection: psycopg.Connection, settlement: Settlement) -> None:
    """Record what became of the messages that are not settled, and tell those who wait for dead letters."""
    if settlement.unfinished:
        kept = (message.as_columns() | {"cursor": reached} for message, reached in settlement.unfinished.items())
        connection.execute(KEEP, as_arrays(kept))
        failures.go_on(connection, [message.id for message in settlement.unfinished])
    if settlement.failed:
        failures.record(connection, settlement.failed)
    if dead := list(notification_payloads(message.id for message in settlement.dead)):
        connection.execute(NOTIFY, {"channel": DEAD_CHANNEL, "payloads": dead})


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
