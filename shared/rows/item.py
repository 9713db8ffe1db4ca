"""The row of an item."""

from dataclasses import dataclass
from typing import TypedDict

from shared.rows.row import Row


class ItemColumns(TypedDict):
    """What a command says of a new item; the rest is the database's."""

    name: str
    description: str | None
    sell_in: int
    quality: int
    owner_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow(Row):
    """An item as the write model has it, but for its tags."""

    name: str
    description: str | None
    sell_in: int
    quality: int
    owner_id: int
