"""An item of an import, and its event."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.events.event import Event
from shared.events.item import OwnerPayload, item_event
from shared.rows.item import ItemRow
from shared.rows.user import UserRow


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be added: its row, its owner, and its tags in their order."""

    row: ItemRow
    owner: UserRow
    tags: Sequence[str]


def item_created(new: NewItem) -> Event:
    """Return the event that carries the item's state."""
    owner = OwnerPayload(id=new.owner.id, name=new.owner.name, email=new.owner.email, version=new.owner.version)
    return item_event("created", new.row, owner, new.tags)
