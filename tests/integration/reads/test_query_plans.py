"""Every filter with every sort is answered by an index, first page and deep page, on 64 thousand items.

The commands are those the API sent, explained by the server. Counts are asserted, never times.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, get_args

import pytest

from api.items.queries import SORT_KEYS, ItemFilter, Sort
from api.paging import encode_cursor
from shared.mongo import Document
from shared.read_models import ITEMS_READ
from shared.read_models.read_model import TOMBSTONES
from tests.integration.reads.catalogue import ITEMS, OWNERS, USERS, words_of
from tests.integration.reads.conftest import Explained, Reading

LIMIT = 50
SORTS: tuple[Sort, ...] = get_args(Sort)
FILTERS = {
    "no filter": ItemFilter(),
    "a common tag": ItemFilter(tags=["tag2"]),
    "a rare tag": ItemFilter(tags=["rare"]),
    "two tags": ItemFilter(tags=["tag1", "tag40"]),
    "an owner of many": ItemFilter(owner_id=1),
    "an owner of one": ItemFilter(owner_id=OWNERS + 1),
    "a tag and an owner": ItemFilter(tags=["tag3"], owner_id=2),
}
# Where the filter has no index in the order of the sort, the sort's index is walked and the filter looks at each item.
WALKS = {("owner", "name"), ("owner", "updated_at"), ("tag", "updated_at")}


def parameters_of(wanted: ItemFilter) -> dict[str, Any]:
    given = {"tag": list(wanted.tags), "owner_id": wanted.owner_id, "q": wanted.words}
    return {name: value for name, value in given.items() if value not in (None, [])}


def key_of(sort: Sort) -> Callable[[Document], tuple[Any, ...]]:
    field = SORT_KEYS[sort.removeprefix("-")].field
    return lambda item: (item[field], item["_id"])


def in_order(matching: list[Document], sort: Sort) -> list[Document]:
    return sorted(matching, key=key_of(sort), reverse=sort.startswith("-"))


def cursor_at(item: Document, sort: Sort) -> str:
    field = SORT_KEYS[sort.removeprefix("-")].field
    return encode_cursor(sort, [item["_id"]] if field == "_id" else [item[field], item["_id"]])


def assert_index_only(explained: Explained) -> None:
    assert "COLLSCAN" not in explained.stages
    assert not [stage for stage in explained.stages if stage.startswith("SORT") and stage != "SORT_MERGE"]
    assert "IXSCAN" in explained.stages


@pytest.mark.parametrize(("named", "sort"), list(product(FILTERS, SORTS)))
def test_a_page_is_right_and_served_by_an_index(reading: Reading, named: str, sort: Sort) -> None:
    wanted = FILTERS[named]
    expected = in_order(list(reading.catalogue.matching(wanted)), sort)
    deep = len(expected) * 9 // 10
    for begin in {0, deep}:
        cursor = {"cursor": cursor_at(expected[begin - 1], sort)} if begin else {}
        shown, explained = reading.get("/items", sort=sort, limit=LIMIT, **cursor, **parameters_of(wanted))
        assert [item["id"] for item in shown] == [item["_id"] for item in expected[begin : begin + LIMIT]]
        assert_index_only(explained)
        assert explained.returned == min(LIMIT + 1, len(expected) - begin)
        assert max(explained.keys, explained.documents) <= most_examined(reading, wanted, sort, explained.returned)


def most_examined(reading: Reading, wanted: ItemFilter, sort: Sort, returned: int) -> int:
    """Return how many keys and documents a page may cost."""
    filters = {kind for kind, given in (("tag", wanted.tags), ("owner", wanted.owner_id)) if given}
    field = sort.removeprefix("-")
    if any((kind, field) in WALKS for kind in filters) and not ("tag" in filters and field == "name"):
        return ITEMS + 1
    if len(filters) + len(wanted.tags) > 2:  # one condition bounds the scan, the others look at each item
        return max(reading.catalogue.tags[tag] for tag in wanted.tags)
    return returned + 1  # where two scans are merged, each has looked at its next


@pytest.mark.parametrize("sort", [sort for sort in SORTS if not sort.endswith("id")])
def test_every_page_of_equal_values_costs_the_same(reading: Reading, sort: Sort) -> None:
    expected = in_order(list(reading.catalogue.items), sort)
    field = sort.removeprefix("-")
    commonest = "same name" if field == "name" else min(item[field] for item in expected)
    equal = [item for item in expected if item[field] == commonest]
    assert len(equal) > 5_000
    shown, explained = reading.get("/items", sort=sort, limit=LIMIT, cursor=cursor_at(equal[4_999], sort))
    assert [item["id"] for item in shown] == [item["_id"] for item in equal[5_000 : 5_000 + LIMIT]]
    # One more at most: the first of those beyond the equal ones.
    assert max(explained.keys, explained.documents) <= LIMIT + 2


@pytest.mark.parametrize("words", ["word40", "word7 word40", "word7 word40 word9", "word40 nowhere"])
@pytest.mark.parametrize("page", ["first", "deep"])
def test_words_examine_the_items_with_any_of_them(reading: Reading, words: str, page: str) -> None:
    # The server cannot intersect: it fetches what each word finds, and nothing else. `word7` is a part of `word70`.
    expected = [item["_id"] for item in reading.catalogue.matching(ItemFilter(words=words))]
    begin = len(expected) // 2 if page == "deep" else 0
    cursor = {"cursor": encode_cursor("id", [expected[begin - 1]])} if begin else {}
    shown, explained = reading.get("/items", q=words, limit=LIMIT, **cursor)
    assert [item["id"] for item in shown] == expected[begin : begin + LIMIT]
    found = sum(word in words_of(item) for word in words.split() for item in reading.catalogue.items)
    assert set(explained.indexes) == {"words"}
    assert explained.keys == found
    if not cursor:
        assert explained.documents == found
    # A match counts twice when the cursor's condition looks at it again.
    assert found <= explained.documents <= 2 * found
    assert "COLLSCAN" not in explained.stages


def test_words_go_with_tags_and_owners(reading: Reading) -> None:
    wanted = ItemFilter(tags=["tag1"], owner_id=1, words="word3 word1")
    shown, explained = reading.get("/items", limit=1000, **parameters_of(wanted))
    assert shown
    assert [item["id"] for item in shown] == [item["_id"] for item in reading.catalogue.matching(wanted)]
    assert set(explained.indexes) == {"words"}


@pytest.mark.parametrize("sort", SORTS)
def test_only_id_order_walks_over_deleted_items(reading: Reading, sort: Sort) -> None:
    catalogue = reading.catalogue
    deleted = sum("deleted_at" in document for document in catalogue.documents)
    last_before = catalogue.items[30_000 - 1] if sort == "id" else catalogue.items[30_000]
    cursor = {"cursor": cursor_at(last_before, sort)} if sort.endswith("id") else {}
    _, explained = reading.get("/items", sort=sort, limit=LIMIT, **cursor)
    assert explained.documents == LIMIT + 1 + (deleted if sort.endswith("id") else 0)


def test_users_are_listed_and_found_by_an_index(reading: Reading) -> None:
    for given, returned in (
        ({"email": "user7@example.org"}, 1),
        ({"limit": LIMIT}, LIMIT + 1),
        ({"limit": LIMIT, "cursor": encode_cursor("id", [USERS - 10])}, 10),
        ({"email": "user7@example.org", "cursor": encode_cursor("id", [3])}, 1),
    ):
        _, explained = reading.get("/users", **given)
        assert_index_only(explained)
        assert (explained.keys, explained.documents) == (returned, returned)


def test_a_document_is_in_at_most_six_secondary_indexes() -> None:
    # In the index of tombstones there is no document.
    assert len([index for index in ITEMS_READ.indexes if index != TOMBSTONES]) <= 6
