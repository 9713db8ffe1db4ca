"""Users and items of an import, without ORM objects, and the event of an item as `shared.events` makes it.

An import makes tens of thousands a second, and an ORM object costs more than all the rest of its item together. And it
tells somebody when it goes: a Ctrl-C that comes in that moment Python prints and forgets.
"""

from dataclasses import dataclass
from datetime import datetime

from api.catalogue.entries import ItemEntry
from shared.events.event import Event
from shared.events.item import AGGREGATE_TYPE, ItemPayload, OwnerPayload

FIRST_VERSION = 1


@dataclass(slots=True)
class KnownUser:
    """A user as the database has it."""

    id: int
    name: str
    email: str
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be added: its entry, its owner, and what the database gave it."""

    id: int
    entry: ItemEntry
    owner: KnownUser
    created_at: datetime


def item_created(item: NewItem) -> Event:
    """Return the event that carries the item's state."""
    entry, owner = item.entry, item.owner
    payload = ItemPayload(
        schema_version=1,
        id=item.id,
        name=entry.name,
        description=entry.description,
        sell_in=entry.sell_in,
        quality=entry.quality,
        owner=OwnerPayload(id=owner.id, name=owner.name, email=owner.email, version=owner.version),
        tags=list(entry.tags),
        created_at=item.created_at,
        updated_at=item.created_at,
    )
    return Event(AGGREGATE_TYPE, item.id, FIRST_VERSION, f"{AGGREGATE_TYPE}.created", payload)
