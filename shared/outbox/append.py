"""Adding messages to the caller's transaction. They are sent if and only if that transaction commits."""

from collections.abc import Iterable, Mapping
from typing import Final, cast
from uuid import UUID

from psycopg import AsyncConnection, Cursor
from psycopg.rows import TupleRow

from shared.events.event import Event
from shared.history import HISTORY
from shared.postgres import to_json

EVENT_COLUMNS: Final = ("aggregate_type", "aggregate_id", "aggregate_version", "event_type", "payload")

APPEND: Final = f"""
    INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload, trace_context, awaited)
    VALUES (%(aggregate_type)s, %(aggregate_id)s, %(aggregate_version)s, %(event_type)s, %(payload)s::jsonb,
            %(trace_context)s::jsonb, %(awaited)s)
    RETURNING id, (SELECT {HISTORY} FROM installation) AS history
"""

COPY_OUTBOX: Final = """
    COPY outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload) FROM STDIN
"""


# One statement, sent at once: while the server waited for a COPY to go on, no time-out would end the transaction.
APPEND_ALL: Final = """
    INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload)
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::int[], %s::text[], %s::text[]::jsonb[])
"""


async def append(
    connection: AsyncConnection, event: Event, *, awaited: bool, trace_context: Mapping[str, str] | None = None
) -> tuple[int, UUID]:
    """Add one message that carries `event`; return its id and its history. `awaited`: a client waits for it."""
    columns = dict(zip(EVENT_COLUMNS, _columns(event), strict=True))
    columns |= {"trace_context": trace_context and to_json(trace_context), "awaited": awaited}
    return cast("tuple[int, UUID]", await (await connection.execute(APPEND, columns)).fetchone())


def copy_in(cursor: Cursor[TupleRow], events: Iterable[Event], ids: Iterable[int]) -> None:
    """Add one message per event, with these ids, for which nobody waits. Events are made while the server works."""
    with cursor.copy(COPY_OUTBOX) as copy:
        for message_id, event in zip(ids, events, strict=True):
            copy.write_row((message_id, *_columns(event)))


def append_all(cursor: Cursor[TupleRow], events: Iterable[Event]) -> None:
    """Add one message per event, for which nobody waits, in their order."""
    rows = [_columns(event) for event in events]
    if rows:
        cursor.execute(APPEND_ALL, [list(column) for column in zip(*rows, strict=True)])


def _columns(event: Event) -> tuple[str, int, int, str, str]:
    payload = to_json(event.payload)
    return event.aggregate_type, event.aggregate_id, event.aggregate_version, event.event_type, payload
