"""Every event type and its payload. A new aggregate adds its lines here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from shared.events import item, user
from shared.events.event import DeletedPayload, Event
from shared.events.schema import PayloadSchema, UnreadablePayloadError
from shared.outbox.message import OutboxMessage

USER = PayloadSchema(user.UserPayload)
ITEM = PayloadSchema(item.ItemPayload)
DELETED = PayloadSchema(DeletedPayload)

PAYLOADS: Mapping[str, PayloadSchema] = MappingProxyType(
    {
        "user.created": USER,
        "user.updated": USER,
        "user.repaired": USER,
        "user.deleted": DELETED,
        "item.created": ITEM,
        "item.updated": ITEM,
        "item.repaired": ITEM,
        "item.deleted": DELETED,
    }
)

AGGREGATE_TYPES = frozenset(event_type.partition(".")[0] for event_type in PAYLOADS)


class UnreadableEventError(ValueError):
    """The message does not hold the event that its type promises."""


def read_event(message: OutboxMessage) -> Event:
    """Return the event in `message`, its payload decoded and checked.

    Raises UnreadableEventError when the type is unknown or the payload is not of that type.
    """
    payload = read_payload(message.event_type, message.payload)
    return Event(message.aggregate_type, message.aggregate_id, message.aggregate_version, message.event_type, payload)


def read_payload(event_type: str, text: bytes | str) -> Mapping[str, Any]:
    """Return the payload of this event type in JSON, at its present schema version. Raises UnreadableEventError."""
    schema = PAYLOADS.get(event_type)
    if schema is None:
        raise UnreadableEventError(f"unknown event type {event_type!r}")
    try:
        payload: Mapping[str, Any] = schema.read(text)
    except UnreadablePayloadError as error:
        raise UnreadableEventError(f"payload of {event_type}: {error}") from error
    return payload
