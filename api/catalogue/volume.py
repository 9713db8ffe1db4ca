"""Users and items made up for volume: any number of them in no memory, and the same ones every time.

The first items do not depend on how many more are asked for, so a larger run with as many users adds the difference.
"""

from collections.abc import Iterator
from typing import Final

from api.catalogue.entries import ItemEntry, UserEntry

WARES: Final = ("Brie", "Vest", "Elixir", "Mana Cake", "Cheddar", "Hammer", "Ingot", "Water", "Pass", "Lute", "Bow")
QUALITIES: Final = ("Aged", "Conjured", "Legendary", "Worn", "Polished", "Cursed", "Blessed")
TAGS: Final = (
    "cheese", "armour", "potion", "food", "weapon", "material", "ticket",
    "instrument", "conjured", "legendary", "soft", "hard", "ageing",
)  # fmt: skip
MOST_TAGS: Final = 4
# Neighbouring items share an owner, so that what an import asks about one chunk concerns few owners.
ITEMS_IN_A_ROW: Final = 10


def volume_entries(users: int, items: int) -> Iterator[UserEntry | ItemEntry]:
    """Yield `users` users, then `items` items that belong to them."""
    for number in range(1, users + 1):
        yield UserEntry(number, f"User {number}", _email(number))
    for number in range(1, items + 1):
        yield _item(users + number, number, _email((number - 1) // ITEMS_IN_A_ROW % users + 1))


def _email(user: int) -> str:
    return f"user{user}@volume.example.com"


def _item(line: int, number: int, owner_email: str) -> ItemEntry:
    quality, ware = QUALITIES[number % len(QUALITIES)], WARES[number % len(WARES)]
    return ItemEntry(
        line,
        owner_email,
        f"{quality} {ware} {number}",
        f"{quality}, and number {number} of its kind" if number % 3 else None,
        number * 13 % 41 - 10,
        number * 7 % 51,
        tuple(TAGS[(number + step * 5) % len(TAGS)] for step in range(number % (MOST_TAGS + 1))),
    )
