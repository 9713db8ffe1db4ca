"""All SQL on idempotency keys but for their purge, which is the projector's."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import IdempotencyKeyInFlightError, IdempotencyKeyReusedError, NewerResultError
from api.idempotency.request_key import RequestKey
from shared import retention
from shared.events.event import Event
from shared.events.registry import UnreadableEventError, read_payload
from shared.outbox.lookup import MAKE_AWAITED, UNSETTLED_NOW, AsOf
from shared.postgres import to_json
from shared.write_model.base import NOW
from shared.write_model.idempotency_key import IDEMPOTENCY_KEYS


async def earlier(connection: AsyncConnection, request: RequestKey) -> tuple[Event, int] | None:
    """Return what this request came to when it was done before: event and message id.

    If it was not, the key is this transaction's until it ends. Raises IdempotencyKeyInFlightError when it is
    another's, IdempotencyKeyReusedError when the key came with another body, NewerResultError when only a newer version
    of this service can read what it came to.
    """
    # A try-lock: a request that waited for the other would hold one of the few connections meanwhile.
    locked = await connection.scalar(select(func.pg_try_advisory_xact_lock(*request.lock)))
    # Looked up after the lock, in a snapshot that has what its last holder committed; and also without the lock,
    # for its holder may be another repetition.
    found = (
        await connection.execute(
            select(IDEMPOTENCY_KEYS).where(
                IDEMPOTENCY_KEYS.c.principal == request.principal,
                IDEMPOTENCY_KEYS.c.route == request.route,
                IDEMPOTENCY_KEYS.c.key == request.key,
                IDEMPOTENCY_KEYS.c.created_at > NOW - retention.IDEMPOTENCY_KEYS,
            )
        )
    ).one_or_none()
    if found is None:
        if not locked:
            raise IdempotencyKeyInFlightError
        return None
    if found.request_hash != request.request_hash:
        raise IdempotencyKeyReusedError
    try:
        payload = read_payload(found.event_type, to_json(found.payload))
    except UnreadableEventError as error:
        raise NewerResultError from error
    event = Event(found.aggregate_type, found.aggregate_id, found.aggregate_version, found.event_type, payload)
    return event, found.message_id


async def settled(connection: AsyncConnection, message_id: int, *, awaited: bool) -> tuple[UUID, AsOf | None]:
    """Return the present history and, if the message is settled, as of when.

    One that is not settled gets awaited when the client waits for it now.
    """
    parameters = {"ids": [message_id], "id": message_id}
    now = (await connection.exec_driver_sql(UNSETTLED_NOW, parameters)).one()
    if now.states and awaited:
        await connection.exec_driver_sql(MAKE_AWAITED, parameters)
    return now.history, None if now.states else AsOf(now.incarnation, now.handshake)


async def store(connection: AsyncConnection, request: RequestKey, event: Event, message_id: int) -> None:
    """Store what the request came to. The caller holds the key, so a row that is there has expired."""
    statement = insert(IDEMPOTENCY_KEYS).values(
        principal=request.principal,
        route=request.route,
        key=request.key,
        request_hash=request.request_hash,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        aggregate_version=event.aggregate_version,
        event_type=event.event_type,
        payload=event.payload,
        message_id=message_id,
    )
    replaced = {column.name: statement.excluded[column.name] for column in IDEMPOTENCY_KEYS.c if not column.primary_key}
    await connection.execute(statement.on_conflict_do_update(constraint=IDEMPOTENCY_KEYS.primary_key, set_=replaced))
