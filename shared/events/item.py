"""The events of an item, and their payload. The owner is part of it, as the command saw it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

from shared.events.event import Event
from shared.rows.item import ItemRow

AGGREGATE_TYPE = "item"

Happened = Literal["created", "updated"]


class OwnerPayload(TypedDict):
    """The owner at one of its versions. The projector corrects it when a newer version is known."""

    id: int
    name: str
    email: str
    version: int


class ItemPayload(TypedDict):
    """The full state of an item. Raise `schema_version` when the shape changes, and keep reading the old one."""

    schema_version: Literal[1]
    id: int
    name: str
    description: str | None
    sell_in: int
    quality: int
    owner: OwnerPayload
    tags: list[str]
    created_at: datetime
    updated_at: datetime


def item_event(happened: Happened, item: ItemRow, owner: OwnerPayload, tags: Sequence[str]) -> Event:
    """Return the event that carries the state of `item` after the command."""
    payload = ItemPayload(
        schema_version=1,
        id=item.id,
        name=item.name,
        description=item.description,
        sell_in=item.sell_in,
        quality=item.quality,
        owner=owner,
        tags=list(tags),
        created_at=item.created_at,
        updated_at=item.updated_at,
    )
    return Event(AGGREGATE_TYPE, item.id, item.version, f"{AGGREGATE_TYPE}.{happened}", payload)
