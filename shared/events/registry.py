"""Every event type and its payload. A new aggregate adds its lines here."""

from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.events import item, user
from shared.events.event import DeletedPayload, Event
from shared.outbox.message import OutboxMessage

PAYLOADS: MappingProxyType[str, TypeAdapter[Any]] = MappingProxyType(
    {
        "user.created": TypeAdapter(user.UserPayload),
        "user.updated": TypeAdapter(user.UserPayload),
        "user.repaired": TypeAdapter(user.UserPayload),
        "user.deleted": TypeAdapter(DeletedPayload),
        "item.created": TypeAdapter(item.ItemPayload),
        "item.updated": TypeAdapter(item.ItemPayload),
        "item.repaired": TypeAdapter(item.ItemPayload),
        "item.deleted": TypeAdapter(DeletedPayload),
    }
)

AGGREGATE_TYPES = frozenset(event_type.partition(".")[0] for event_type in PAYLOADS)


class UnreadableEventError(ValueError):
    """The message does not hold the event that its type promises."""


def read_event(message: OutboxMessage) -> Event:
    """Return the event in `message`, its payload decoded and checked.

    Raises UnreadableEventError when the type is unknown or the payload is not of that type.
    """
    adapter = PAYLOADS.get(message.event_type)
    if adapter is None:
        raise UnreadableEventError(f"unknown event type {message.event_type!r}")
    try:
        payload = adapter.validate_json(message.payload)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UnreadableEventError(f"payload of {message.event_type}: {place}: {problem['msg']}") from error
    return Event(message.aggregate_type, message.aggregate_id, message.aggregate_version, message.event_type, payload)
