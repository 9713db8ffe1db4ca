"""Which projection, which read model and which rows an aggregate type has. A new aggregate adds its line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from projector.projections.item import item_document
from projector.projections.user import user_document
from projector.rows import ITEM_ROWS, USER_ROWS, Rows
from shared.events.event import Event
from shared.read_models import ITEMS_READ, USERS_READ, ReadModel, Tombstone


@dataclass(frozen=True, slots=True)
class Projection:
    """Where the events of one aggregate type go, how they become documents, and the rows to rebuild them from.

    `owner_field` names the field in which the document embeds its owner. `is_owner` says that items embed it.
    """

    read_model: ReadModel
    rows: Rows
    document: Callable[[Event], Mapping[str, Any]]
    owner_field: str | None = None
    is_owner: bool = False


PROJECTIONS: Mapping[str, Projection] = MappingProxyType(
    {
        "user": Projection(USERS_READ, USER_ROWS, user_document, is_owner=True),
        "item": Projection(ITEMS_READ, ITEM_ROWS, item_document, owner_field="owner"),
    }
)


def project(event: Event) -> Mapping[str, Any]:
    """Return what the read model holds after `event`: a document, or the tombstone of a delete."""
    if event.event_type.endswith(".deleted"):
        return Tombstone(
            _id=event.aggregate_id, version=event.aggregate_version, deleted_at=event.payload["deleted_at"]
        )
    return PROJECTIONS[event.aggregate_type].document(event)
