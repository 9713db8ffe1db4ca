"""What a line of a catalogue is: a user, an item, or nothing that can be imported. Values are checked."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UserEntry:
    """A user, identified by the address."""

    line: int
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """An item, identified by its owner and its name. `tags` are in order, each once."""

    line: int
    owner_email: str
    name: str
    description: str | None
    sell_in: int
    quality: int
    tags: Sequence[str]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is left out, and why."""

    line: int
    reason: str


Entry = UserEntry | ItemEntry | BadLine
