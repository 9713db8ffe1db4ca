"""In id order, no item that exists throughout is skipped or shown twice, whatever is written meanwhile."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from projector.process import Projector
from projector.relay import Relay
from shared.mongo import Document
from shared.read_models import ITEMS_READ
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.waiting import wait_until

TAGS: Final = ("a", "b")
OWNERS: Final = (1, 2)
LAST_ID: Final = 30

# What a list asks for, and which items it then shows.
LISTS: Final[Mapping[str, tuple[dict[str, Any], Callable[[Document], bool]]]] = {
    "all": ({}, lambda _: True),
    "descending": ({"sort": "-id"}, lambda _: True),
    "a tag": ({"tag": "a"}, lambda item: "a" in item["tags"]),
    "two tags, descending": ({"tag": ["a", "b"], "sort": "-id"}, lambda item: set(item["tags"]) >= {"a", "b"}),
    "an owner": ({"owner_id": 1}, lambda item: item["owner"]["id"] == 1),
    "words": ({"q": "brie mild"}, lambda item: item["name"] == "Brie mild"),
}

ids = st.integers(1, LAST_ID)
fields = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["Brie", "Brie mild", "Ham"]),
        "tags": st.lists(st.sampled_from(TAGS), unique=True),
        "owner": st.sampled_from(OWNERS),
    }
)
# None deletes; anything else creates the item or changes it: ids become visible in any order.
writes = st.lists(st.tuples(ids, st.none() | fields), max_size=6)


class Shelf:
    """The items as they are, and everything that is written to them through outbox and projector."""

    def __init__(self, outbox: Outbox, relay: Relay) -> None:
        self.items: dict[int, Document] = {}
        self._outbox = outbox
        self._relay = relay
        self._versions = count(1)

    def write(self, item_id: int, fields: Document | None) -> None:
        """Write an item, or delete it."""
        if fields is None:
            self.items.pop(item_id, None)
            self._outbox.deleted("item", item_id, next(self._versions))
        else:
            self.items[item_id] = fields | {"owner": owner(fields["owner"])}
            self._outbox.item(item_id, next(self._versions), **self.items[item_id])

    def apply(self, batch: list[tuple[int, Document | None]]) -> None:
        """Write all of them and wait until they are in the read model."""
        for item_id, written in batch:
            self.write(item_id, written)
        drain(self._relay)


def owner(owner_id: int) -> Document:
    return {"id": owner_id, "name": "Ada", "email": f"user{owner_id}@example.org", "version": 1}


@pytest.fixture
def shelf(outbox: Outbox, relay: Relay) -> Shelf:
    return Shelf(outbox, relay)


@pytest.mark.parametrize("asked", LISTS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    first=writes.map(list), between=st.lists(writes, min_size=1, max_size=6), limit=st.integers(1, 3), data=st.data()
)
def test_no_item_that_exists_throughout_is_skipped_or_shown_twice(
    asked: str,
    shelf: Shelf,
    unprojected: ApiClient,
    first: list[tuple[int, Document | None]],
    between: list[list[tuple[int, Document | None]]],
    limit: int,
    data: st.DataObject,
) -> None:
    parameters, shows = LISTS[asked]
    shelf.apply([(item_id, None) for item_id in list(shelf.items)])
    shelf.apply([*first, *((item_id, data.draw(fields)) for item_id in range(5, LAST_ID, 5))])
    throughout = {item_id for item_id, item in shelf.items.items() if shows(item)}
    pending: Iterator[list[tuple[int, Document | None]]] = iter(between)
    shown: list[int] = []
    for page in unprojected.pages("/items", limit=limit, **parameters):
        shown += [item["id"] for item in page]
        assert len(shown) == len(set(shown))  # here, not afterwards: a list that goes in circles has no end
        with suppress(StopIteration):
            shelf.apply(next(pending))
        throughout &= {item_id for item_id, item in shelf.items.items() if shows(item)}
    assert shown == sorted(set(shown), reverse="-id" in parameters.values())
    assert throughout <= set(shown)


def test_the_promise_holds_for_readers_and_writers_that_never_wait_for_each_other(
    unprojected: ApiClient, running_projector: Projector, outbox: Outbox, read_models: Database[Document]
) -> None:
    # Items with an odd id stay and change; those with an even id come and go.
    stays = set(range(1, 200, 2))
    for item_id in range(1, 200):
        outbox.item(item_id)
    items = read_models[ITEMS_READ.name]
    wait_until(lambda: items.count_documents({}) == 199, "all items are there")
    done = threading.Event()

    def write() -> None:
        for version in range(2, 12):
            for item_id in range(1, 200):
                if item_id % 2 or version % 2:
                    outbox.item(item_id, version, tags=["a", str(version)])
                else:
                    outbox.deleted("item", item_id, version)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    lists = 0
    while not done.is_set():
        for parameters in ({}, {"tag": "a"}, {"owner_id": 1, "sort": "-id"}):
            shown = [item["id"] for item in unprojected.everything("/items", limit=10, **parameters)]
            assert shown == sorted(set(shown), reverse="sort" in parameters)
            assert stays <= set(shown)
            lists += 1
    writer.join()
    assert lists >= 3
