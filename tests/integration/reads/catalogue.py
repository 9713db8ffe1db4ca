"""64 thousand items in the shape of `items_read`, and what a list of them has to show, worked out by hand.

Unevenly spread like the real catalogue: Zipf over 655 tags, owners with thousands of items and owners with one, many
items of one name or of one moment, and a stretch of deleted ids in the middle.
"""

import random
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import accumulate
from typing import Any, Final

from api.items.queries import ItemFilter
from shared.mongo import Document

ITEMS: Final = 64_000
TAGS: Final = 655
TAGS_AN_ITEM: Final = 6
OWNERS: Final = 2_000
DELETED: Final = range(30_001, 32_001)
USERS: Final = 2_000
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Catalogue:
    """The documents, in id order, tombstones among them."""

    documents: Sequence[Document]

    @cached_property
    def items(self) -> Sequence[Document]:
        """What is not deleted."""
        return [document for document in self.documents if "deleted_at" not in document]

    @cached_property
    def tags(self) -> Counter[str]:
        """How many items carry each tag."""
        return Counter(tag for item in self.items for tag in item["tags"])

    def matching(self, wanted: ItemFilter) -> Sequence[Document]:
        """Return the items that a list with this filter shows, in id order."""
        words = set((wanted.words or "").split())
        return [
            item
            for item in self.items
            if set(wanted.tags) <= set(item["tags"])
            and wanted.owner_id in {None, item["owner"]["id"]}
            and words <= words_of(item)
        ]


def words_of(item: Document) -> set[str]:
    """Return the words a search finds the item by."""
    return {*item["name"].split(), *item["description"].split()}


def users() -> Iterator[Document]:
    """Make users with an e-mail address each."""
    for number in range(1, USERS + 1):
        yield _at({"_id": number, "name": "Ada", "email": f"user{number}@example.org", "version": 1}, number)


def make_catalogue(count: int = ITEMS) -> Catalogue:
    """Make the documents; the same ones every time."""
    chance = random.Random(64)  # noqa: S311 - no secret
    tags, owners, words = _zipf("tag", TAGS), _zipf("", OWNERS), _zipf("word", 3_000)
    documents: list[Document] = []
    for number in range(1, count + len(DELETED) + 1):
        if number in DELETED:
            documents.append({"_id": number, "version": 2, "deleted_at": NOW})
            continue
        owner = int(owners.pick(chance))
        name = "same name" if number % 12 == 0 else f"name{chance.randrange(10**6):06}"
        item = {
            "_id": number,
            "name": name,
            "description": " ".join(words.pick(chance) for _ in range(6)),
            "sell_in": number % 50,
            "quality": number % 7,
            "owner": {"id": owner, "name": "Ada", "email": f"user{owner}@example.org", "version": 1},
            "tags": list(dict.fromkeys(tags.pick(chance) for _ in range(TAGS_AN_ITEM))),
            "version": 1,
        }
        documents.append(_at(item, chance.randrange(count // 2) if number % 9 else 0))
    # Whatever chance says: one tag and one owner of a single item, the last one.
    documents[-1]["tags"].append("rare")
    documents[-1]["owner"] = {"id": OWNERS + 1, "name": "Bob", "email": "bob@example.org", "version": 1}
    return Catalogue(documents)


def _at(document: Document, seconds: int) -> Document:
    return document | {"created_at": NOW, "updated_at": NOW + timedelta(seconds=seconds)}


@dataclass(frozen=True)
class _Zipf:
    names: Sequence[str]
    weights: Sequence[float]

    def pick(self, chance: random.Random) -> str:
        return self.names[bisect(self.weights, chance.random() * self.weights[-1])]


def _zipf(prefix: str, count: int) -> Any:
    numbers = range(1, count + 1)
    return _Zipf([f"{prefix}{number}" for number in numbers], list(accumulate(1 / number for number in numbers)))
