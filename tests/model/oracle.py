"""What the read models must show: a pure fold of the events of the commands that were committed.

It shares no code with the projections.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shared.events.event import Event
from shared.mongo import Document

Key = tuple[str, int]


class Oracle:
    """The newest event of each aggregate that is there."""

    def __init__(self) -> None:
        self._alive: dict[Key, Event] = {}

    def fold(self, event: Event) -> None:
        """Take in what the next command did."""
        key = event.aggregate_type, event.aggregate_id
        if event.event_type.endswith(".deleted"):
            del self._alive[key]
        else:
            self._alive[key] = event

    def raise_version(self, aggregate_type: str, aggregate_id: int, version: int) -> None:
        """Take in that a repair has raised a row's version above one that no command wrote."""
        key = aggregate_type, aggregate_id
        if key in self._alive:
            event = self._alive[key]
            self._alive[key] = replace(event, aggregate_version=max(version, event.aggregate_version))

    def has(self, aggregate_type: str, aggregate_id: int) -> bool:
        """Tell whether the aggregate is there."""
        return (aggregate_type, aggregate_id) in self._alive

    def owner_of(self, item_id: int) -> int | None:
        """Return who owns an item, None when there is no such item."""
        item = self._alive.get(("item", item_id))
        return _owner_id(item) if item else None

    def items_of(self, user_id: int) -> list[int]:
        """Return the items that this user owns."""
        return [i for (kind, i), event in self._alive.items() if kind == "item" and _owner_id(event) == user_id]

    def documents(self) -> dict[Key, Document]:
        """Return every document of every read model, by collection and id."""
        return {
            (f"{aggregate_type}s_read", aggregate_id): self._document(event)
            for (aggregate_type, aggregate_id), event in self._alive.items()
        }

    def _document(self, event: Event) -> Document:
        fields: dict[str, Any] = {name: value for name, value in event.payload.items() if name != "schema_version"}
        document = {"_id": fields.pop("id"), "version": event.aggregate_version} | fields
        if event.aggregate_type == "item":
            document["owner"] = self._owner(_owner_id(event))
        return document

    def _owner(self, user_id: int) -> Mapping[str, Any]:
        user = self._alive["user", user_id]
        return {
            "id": user_id,
            "name": user.payload["name"],
            "email": user.payload["email"],
            "version": user.aggregate_version,
        }


def _owner_id(item: Event) -> int:
    owner_id: int = item.payload["owner"]["id"]
    return owner_id
