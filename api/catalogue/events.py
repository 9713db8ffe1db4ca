"""The events of imported users and items: what `shared.events` makes of the same ones, without ORM objects.

An import makes tens of thousands a second, and an ORM object costs more than all the rest of its item together. And it
tells somebody when it goes: a Ctrl-C that comes in that moment Python prints and forgets.
"""

from dataclasses import dataclass
from datetime import datetime

from api.catalogue.entries import ItemEntry
from shared.events.event import Event
from shared.events.item import AGGREGATE_TYPE as ITEM
from shared.events.item import ItemPayload, OwnerPayload
from shared.events.user import AGGREGATE_TYPE as USER
from shared.events.user import UserPayload

FIRST_VERSION = 1


@dataclass(frozen=True, slots=True)
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


def user_created(user: KnownUser) -> Event:
    """Return the event that carries the state of a user who was added."""
    payload = UserPayload(
        schema_version=1,
        id=user.id,
        name=user.name,
        email=user.email,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )
    return Event(USER, user.id, FIRST_VERSION, f"{USER}.created", payload)


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
    return Event(ITEM, item.id, FIRST_VERSION, f"{ITEM}.created", payload)
