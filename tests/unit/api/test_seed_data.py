from dataclasses import asdict, replace

import orjson
import pytest

from api.catalogue.demo import DEMO_LINES, demo_entries
from api.catalogue.entries import ItemEntry, UserEntry
from api.catalogue.lines import parse_line
from api.catalogue.volume import ITEMS_IN_A_ROW, volume_entries


def assert_importable(entries: list[UserEntry | ItemEntry]) -> None:
    """Assert that each entry is what its line would be read as, all differ, and each owner comes before the items."""
    addresses = set()
    keys = set()
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, UserEntry):
            assert parse_line(number, orjson.dumps({"kind": "user", **asdict(entry)})) == entry
            addresses.add(entry.email)
        else:
            assert parse_line(number, orjson.dumps({"kind": "item", **asdict(entry)})) == replace(
                entry, tags=list(entry.tags)
            )
            assert entry.owner_email in addresses
            keys.add((entry.owner_email, entry.name))
    assert len(addresses) + len(keys) == len(entries)


def test_the_demo_data_is_what_the_api_would_take() -> None:
    entries = list(demo_entries())
    assert_importable(entries)
    assert len(entries) == DEMO_LINES
    assert entries == list(demo_entries())


def test_the_demo_data_has_the_wares_of_the_kata() -> None:
    names = {entry.name for entry in demo_entries() if isinstance(entry, ItemEntry)}
    assert {"Aged Brie", "Sulfuras, Hand of Ragnaros", "Backstage passes to a TAFKAL80ETC concert"} <= names


@pytest.mark.parametrize(("users", "items"), [(1, 0), (3, 100), (20, 15), (7, 1000)])
def test_made_up_data_is_what_the_api_would_take(users: int, items: int) -> None:
    entries = list(volume_entries(users, items))
    assert_importable(entries)
    assert len(entries) == users + items
    assert entries == list(volume_entries(users, items))


def test_more_items_are_the_same_items_and_some_more() -> None:
    few, many = list(volume_entries(7, 100)), list(volume_entries(7, 1000))
    assert many[: len(few)] == few


def test_every_user_owns_items_once_there_are_enough() -> None:
    owners = {entry.owner_email for entry in volume_entries(5, 5 * ITEMS_IN_A_ROW) if isinstance(entry, ItemEntry)}
    assert len(owners) == 5
