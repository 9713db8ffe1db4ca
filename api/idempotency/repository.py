"""All SQL on idempotency keys but for their purge, which is the projector's."""

from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import args_row, scalar_row

from api.errors import IdempotencyKeyInFlightError, IdempotencyKeyReusedError, NewerResultError
from api.idempotency.request_key import RequestKey
from shared import retention
from shared.events.event import Event
from shared.events.registry import UnreadableEventError, read_payload
from shared.outbox.lookup import MAKE_AWAITED, UNSETTLED_NOW, AsOf
from shared.postgres import to_json

# A request that waited for the other would hold one of the few connections meanwhile.
TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(%s::int, %s::int)"

EARLIER: Final = """
    SELECT request_hash, aggregate_type, aggregate_id, aggregate_version, event_type, payload::text, message_id
    FROM idempotency_keys
    WHERE principal = %(principal)s AND route = %(route)s AND key = %(key)s
      AND created_at > clock_timestamp() - %(kept)s::interval
"""

# A row that is there has expired.
STORE: Final = """
    INSERT INTO idempotency_keys (principal, route, key, request_hash, aggregate_type, aggregate_id,
                                  aggregate_version, event_type, payload, message_id)
    VALUES (%(principal)s, %(route)s, %(key)s, %(request_hash)s, %(aggregate_type)s, %(aggregate_id)s,
            %(aggregate_version)s, %(event_type)s, %(payload)s::jsonb, %(message_id)s)
    ON CONFLICT (principal, route, key) DO UPDATE SET
        request_hash = excluded.request_hash, aggregate_type = excluded.aggregate_type,
        aggregate_id = excluded.aggregate_id, aggregate_version = excluded.aggregate_version,
        event_type = excluded.event_type, payload = excluded.payload, message_id = excluded.message_id,
        created_at = excluded.created_at
"""


class _Earlier(NamedTuple):
    request_hash: bytes
    aggregate_type: str
    aggregate_id: int
    aggregate_version: int
    event_type: str
    payload: str
    message_id: int


async def earlier(connection: AsyncConnection, request: RequestKey) -> tuple[Event, int] | None:
    """Return what this request came to when it was done before: event and message id.

    If it was not, the key is this transaction's until it ends. Raises IdempotencyKeyInFlightError when it is
    another's, IdempotencyKeyReusedError when the key came with another body, NewerResultError when only a newer version
    of this service can read what it came to.
    """
    locked = await (await connection.cursor(row_factory=scalar_row).execute(TRY_LOCK, request.lock)).fetchone()
    # Looked up after the lock, in a snapshot that has what its last holder committed; and also without the lock,
    # for its holder may be another repetition.
    named = {**_identity(request), "kept": retention.IDEMPOTENCY_KEYS}
    found = await (await connection.cursor(row_factory=args_row(_Earlier)).execute(EARLIER, named)).fetchone()
    if found is None:
        if not locked:
            raise IdempotencyKeyInFlightError
        return None
    if found.request_hash != request.request_hash:
        raise IdempotencyKeyReusedError
    try:
        payload = read_payload(found.event_type, found.payload)
    except UnreadableEventError as error:
        raise NewerResultError from error
    event = Event(found.aggregate_type, found.aggregate_id, found.aggregate_version, found.event_type, payload)
    return event, found.message_id


async def settled(connection: AsyncConnection, message_id: int, *, awaited: bool) -> tuple[UUID, AsOf | None]:
    """Return the present history and, if the message is settled, as of when.

    One that is not settled gets awaited when the client waits for it now.
    """
    cursor = await connection.execute(UNSETTLED_NOW, {"ids": [message_id]})
    history, incarnation, handshake, states = cast("tuple[UUID, UUID, int, dict[str, str]]", await cursor.fetchone())
    if states and awaited:
        await connection.execute(MAKE_AWAITED, {"id": message_id})
    return history, None if states else AsOf(incarnation, handshake)


async def store(connection: AsyncConnection, request: RequestKey, event: Event, message_id: int) -> None:
    """Store what the request came to. The caller holds the key."""
    result = {
        "request_hash": request.request_hash,
        "aggregate_type": event.aggregate_type,
        "aggregate_id": event.aggregate_id,
        "aggregate_version": event.aggregate_version,
        "event_type": event.event_type,
        "payload": to_json(event.payload),
        "message_id": message_id,
    }
    await connection.execute(STORE, _identity(request) | result)


def _identity(request: RequestKey) -> dict[str, Any]:
    return {"principal": request.principal, "route": request.route, "key": request.key}
