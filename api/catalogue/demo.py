"""The kata's demo data: the inn of the Gilded Rose, its neighbours, and what they sell. Always the same."""

from collections.abc import Iterator
from itertools import count
from typing import Final

from api.catalogue.entries import ItemEntry, UserEntry

ALLISON: Final = "allison@gilded-rose.example.com"
RAGNAROS: Final = "ragnaros@molten-core.example.com"
BARD: Final = "bard@tavern.example.com"

USERS: Final = (("Allison", ALLISON), ("Ragnaros", RAGNAROS), ("Toki the Bard", BARD))

# owner, name, description, sell_in, quality, tags
ITEMS: Final[tuple[tuple[str, str, str | None, int, int, tuple[str, ...]], ...]] = (
    (ALLISON, "Aged Brie", "Gets better with age", 2, 0, ("cheese", "soft", "ageing")),
    (ALLISON, "+5 Dexterity Vest", None, 10, 20, ("armour", "dexterity")),
    (ALLISON, "Elixir of the Mongoose", "Shake before use", 5, 7, ("potion", "agility")),
    (ALLISON, "Conjured Mana Cake", "Degrades twice as fast", 3, 6, ("food", "conjured")),
    (ALLISON, "Stormwind Cheddar", "Hard, yellow, famous", 14, 12, ("cheese", "hard", "ageing")),
    (RAGNAROS, "Sulfuras, Hand of Ragnaros", "Never has to be sold", 0, 80, ("weapon", "legendary")),
    (RAGNAROS, "Sulfuron Ingot", None, 30, 40, ("material", "legendary")),
    (RAGNAROS, "Conjured Water of Fire", "Drink while it burns", 1, 4, ("potion", "conjured")),
    (BARD, "Backstage passes to a TAFKAL80ETC concert", "Worthless afterwards", 15, 20, ("ticket", "concert")),
    (BARD, "Lute of the Wandering Minstrel", "Two strings are new", 25, 33, ("instrument",)),
)


def demo_entries() -> Iterator[UserEntry | ItemEntry]:
    """Yield the users, then their items."""
    line = count(1)
    for name, email in USERS:
        yield UserEntry(next(line), name, email)
    for item in ITEMS:
        yield ItemEntry(next(line), *item)


DEMO_LINES: Final = len(USERS) + len(ITEMS)
