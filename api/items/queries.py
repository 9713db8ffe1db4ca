"""Queries on items. They read MongoDB only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from api.errors import NotFoundError, QueryConflictError
from api.items.schemas import ITEMS, ItemOut
from api.paging import decode_cursor, encode_cursor
from api.reads import Reads, again_if_swapped
from shared.mongo import Document
from shared.read_models import ALIVE, ITEMS_READ

Sort = Literal["id", "-id", "name", "-name", "updated_at", "-updated_at"]


class SortKey(NamedTuple):
    """A field that lists are sorted by; what has it is at least `lowest`. None: tombstones have it, too."""

    field: str
    kind: type
    lowest: object


SORT_KEYS: Final[Mapping[str, SortKey]] = {
    "id": SortKey("_id", int, None),
    "name": SortKey("name", str, ""),
    "updated_at": SortKey("updated_at", datetime, datetime.min.replace(tzinfo=UTC)),
}

# Punctuation around a word: a search for "brie," means the word.
_EDGES: Final = re.compile(r"^\W+|\W+$")


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items a list shows: all conditions hold. `words` is looked for in name and description."""

    tags: Sequence[str] = ()
    owner_id: int | None = None
    words: str | None = None

    def to_query(self) -> Document:
        """Return the MongoDB filter of tags and owner."""
        query: Document = {}
        if self.tags:
            query["tags"] = {"$all": list(self.tags)}
        if self.owner_id is not None:
            query["owner.id"] = self.owner_id
        return query

    def index_sorted_by(self, field: str) -> str | None:
        """Return the index to walk in the order of `field`, or None where every index that serves has that order.

        The planner must not choose: it would rather sort all that the filter finds, in memory.
        """
        match field:
            case "_id":
                return None
            case "name" if self.tags:
                return "tags_by_name"
            case _:
                return field


@again_if_swapped
async def item_by_id(reads: Reads, item_id: int) -> ItemOut:
    """Return the item. Raises NotFoundError."""
    document = await reads.document(ITEMS_READ, item_id)
    if document is None:
        raise NotFoundError("Item", item_id)
    return ItemOut.model_validate(document)


@again_if_swapped
async def items_page(
    reads: Reads, wanted: ItemFilter, *, sort: Sort | None, limit: int, cursor: str | None
) -> tuple[Sequence[ItemOut], str | None]:
    """Return a page and the cursor of the next. Raises CursorError, and QueryConflictError for words with a sort."""
    if wanted.words is not None:
        if sort is not None:
            raise QueryConflictError("sort", "q answers in id order and cannot be combined with sort")
        return await _page_with_words(reads, wanted, _bare_words(wanted.words), limit=limit, cursor=cursor)
    order = sort or "id"
    key = SORT_KEYS[order.removeprefix("-")]
    direction = -1 if order.startswith("-") else 1
    keys = [("_id", direction)] if key.field == "_id" else [(key.field, direction), ("_id", direction)]
    query = {**ALIVE, **wanted.to_query()}
    if cursor is not None:
        kinds = [key.kind] if key.field == "_id" else [key.kind, int]
        query = _after(query, [name for name, _ in keys], direction, decode_cursor(cursor, order, kinds))
    elif key.lowest is not None:
        query[key.field] = {"$gte": key.lowest}  # else the scan begins with all the tombstones
    found = (
        reads[ITEMS_READ]
        .find(query, session=reads.session)
        .sort(keys)
        .hint(wanted.index_sorted_by(key.field))
        .limit(limit + 1)
        .batch_size(limit + 1)
    )
    documents = await found.to_list()
    items = ITEMS.validate_python(documents[:limit])
    if len(documents) <= limit:
        return items, None
    return items, encode_cursor(order, [documents[limit - 1][name] for name, _ in keys])


def _after(query: Document, fields: Sequence[str], direction: int, values: Sequence[Any]) -> Document:
    """Return the query for what comes after `values` in the order of `fields`, with bounds for an index scan."""
    operator = "$gt" if direction > 0 else "$lt"
    if len(fields) == 1:
        return {**query, fields[0]: {operator: values[0]}}
    first, second = fields
    # Two scans, merged in order: the rest of the equal values, and what lies beyond them. Each branch carries the
    # whole filter, so that both find their bounds.
    return {
        "$or": [
            {**query, first: values[0], second: {operator: values[1]}},
            {**query, first: {operator: values[0]}},
        ]
    }


async def _page_with_words(
    reads: Reads, wanted: ItemFilter, words: Sequence[str], *, limit: int, cursor: str | None
) -> tuple[Sequence[ItemOut], str | None]:
    """Return a page, in id order, of the items that have all these words, and the cursor of the next.

    Each word is looked up by itself, and the ids that all of them found are kept. One search for all of them,
    `"art" "game"`, would be no cheaper, for the server fetches whatever has one of the words, and it would be wrong:
    beyond the first, such phrases are found inside of other words, an art game in every `party game`.
    """
    if not words:
        return [], None
    # Tombstones have no words. To say so would have the server look at every match twice.
    query = wanted.to_query()
    if cursor is not None:
        query = _after(query, ["_id"], 1, decode_cursor(cursor, "id", [int]))
    first, *others = (
        [{"$match": {"$text": {"$search": f'"{word}"'}, **query}}, {"$project": {"_id": 1}}] for word in words
    )
    stages: list[Mapping[str, Any]] = [
        *first,
        *({"$unionWith": {"coll": ITEMS_READ.name, "pipeline": scan}} for scan in others),
        {"$group": {"_id": "$_id", "words": {"$sum": 1}}},
        {"$match": {"words": len(words)}},
        {"$sort": {"_id": 1}},
        {"$limit": limit + 1},
    ]
    found = await reads[ITEMS_READ].aggregate(stages, session=reads.session, batchSize=limit + 1)
    ids = [document["_id"] for document in await found.to_list()]
    shown = {"_id": {"$in": ids[:limit]}, **ALIVE}
    documents = (
        await reads[ITEMS_READ].find(shown, session=reads.session).sort("_id", 1).batch_size(limit + 1).to_list()
    )
    items = ITEMS.validate_python(documents)
    # By what was found, not by what is left of it: an item deleted in between must not end the list.
    return items, encode_cursor("id", [ids[limit - 1]]) if len(ids) > limit else None


def _bare_words(words: str) -> Sequence[str]:
    """Return the words without the punctuation around them, each once; none holds a character that $text reads."""
    bare = (_EDGES.sub("", word) for word in words.replace('"', " ").replace("\\", " ").split())
    return list(dict.fromkeys(word for word in bare if word))
