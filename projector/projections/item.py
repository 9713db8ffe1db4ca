"""The projection of item events to documents of `items_read`, and of a user to the owner embedded in them."""

from collections.abc import Mapping
from typing import Any

from shared.events.event import Event
from shared.read_models import ItemDocument, OwnerDocument


def item_document(event: Event) -> ItemDocument:
    """Return the document of a created or updated item. The owner is the one the command saw."""
    state = event.payload
    owner = state["owner"]
    return ItemDocument(
        _id=event.aggregate_id,
        name=state["name"],
        description=state["description"],
        sell_in=state["sell_in"],
        quality=state["quality"],
        owner=OwnerDocument(id=owner["id"], name=owner["name"], email=owner["email"], version=owner["version"]),
        tags=state["tags"],
        version=event.aggregate_version,
        created_at=state["created_at"],
        updated_at=state["updated_at"],
    )


def owner_of(user: Mapping[str, Any]) -> OwnerDocument:
    """Return what an item embeds of the document `user`."""
    return OwnerDocument(id=user["_id"], name=user["name"], email=user["email"], version=user["version"])
