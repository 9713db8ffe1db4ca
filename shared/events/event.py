"""One event, and the payload that every aggregate's delete event shares.

An event carries the aggregate's FULL state after the command, so skipping an older event loses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: `event_type` is `<aggregate_type>.<past participle>`, the payload is the one of that type."""

    aggregate_type: str
    aggregate_id: int
    aggregate_version: int
    event_type: str
    payload: Mapping[str, Any] = field(repr=False)


class DeletedPayload(TypedDict):
    """The payload of every `<aggregate_type>.deleted` event: no data outlives the aggregate."""

    schema_version: Literal[1]
    deleted_at: datetime


def repaired(aggregate_type: str, aggregate_id: int, version: int, payload: Mapping[str, Any]) -> Event:
    """Return the event that says the state once more: no command happened, `version` is the one the row has."""
    return Event(aggregate_type, aggregate_id, version, f"{aggregate_type}.repaired", payload)


def deleted(aggregate_type: str, aggregate_id: int, version: int, deleted_at: datetime) -> Event:
    """Return the event of an aggregate's end. `version` is one above the last version the aggregate had."""
    payload = DeletedPayload(schema_version=1, deleted_at=deleted_at)
    return Event(aggregate_type, aggregate_id, version, f"{aggregate_type}.deleted", payload)
