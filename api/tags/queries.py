"""Queries on tags: counted from the items as they are, so never stale and never in need of repair."""

from collections.abc import Mapping, Sequence
from typing import Any

from api.paging import decode_cursor, encode_cursor
from api.reads import Reads, again_if_swapped
from api.tags.schemas import TagOut
from shared.read_models import ITEMS_READ

ORDER = "items"


@again_if_swapped
async def tags_page(reads: Reads, *, limit: int, cursor: str | None) -> tuple[Sequence[TagOut], str | None]:
    """Return a page of tags, most used first, then by name, and the cursor of the next. Raises CursorError."""
    # One pass over the items, which is exact to a moment. The index on tags could only be scanned once for each tag: no
    # faster to speak of, of different moments, and a pipeline is over at a thousand stages. No filter on tombstones:
    # they have no tags. EVIDENCE.md has the forms side by side.
    stages: list[Mapping[str, Any]] = [{"$unwind": "$tags"}, {"$group": {"_id": "$tags", "items": {"$sum": 1}}}]
    if cursor is not None:
        items, name = decode_cursor(cursor, ORDER, [int, str])
        stages.append({"$match": {"$or": [{"items": {"$lt": items}}, {"items": items, "_id": {"$gt": name}}]}})
    stages += [{"$sort": {"items": -1, "_id": 1}}, {"$limit": limit + 1}]
    found = await reads[ITEMS_READ].aggregate(stages, session=reads.session, batchSize=limit + 1)
    tags = [TagOut(name=group["_id"], items=group["items"]) async for group in found]
    shown = tags[:limit]
    return shown, encode_cursor(ORDER, [shown[-1].items, shown[-1].name]) if len(tags) > limit else None
