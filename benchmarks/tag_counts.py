"""What `GET /tags` costs, and what other exact forms would: the counts of all tags, most used first.

`python -m benchmarks.tag_counts URI` counts the items of that server's database `kata`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pymongo import MongoClient
from pymongo.collection import Collection

from benchmarks.interleaved import medians
from shared.read_models import ALIVE, ITEMS_READ

Document = dict[str, Any]
Stages = Sequence[Mapping[str, Any]]

IN_USE: Final = "one pass over the items (in use)"

COUNT: Final[Stages] = [{"$unwind": "$tags"}, {"$group": {"_id": "$tags", "items": {"$sum": 1}}}]
LISTS_FIRST: Final[Stages] = [
    {"$group": {"_id": "$tags", "number": {"$sum": 1}}},
    {"$unwind": "$_id"},
    {"$group": {"_id": "$_id", "items": {"$sum": "$number"}}},
]
ORDER: Final[Stages] = [{"$sort": {"items": -1, "_id": 1}}]


def show(uri: str) -> str:
    """Return the forms side by side, and what the one in use examines."""
    with MongoClient[Document](uri) as client:
        items = client["kata"][ITEMS_READ.name]
        forms: dict[str, Callable[[], list[Document]]] = {
            IN_USE: lambda: _run(items, COUNT),
            "the same, tombstones filtered out first": lambda: _run(items, [{"$match": {**ALIVE}}, *COUNT]),
            "equal lists of tags counted first": lambda: _run(items, LISTS_FIRST),
            "one scan of the index for each tag": lambda: _run(items, _scan_each(items)),
        }
        counted = {name: run() for name, run in forms.items()}
        if any(each != counted[IN_USE] for each in counted.values()):
            raise AssertionError("the forms do not count alike")
        seconds = medians(forms)
        base = seconds[IN_USE]
        number, tags = items.estimated_document_count(), len(items.distinct("tags"))
    rows = ["| form | ratio |", "|---|---|", *(f"| {name} | {each / base:.2f} |" for name, each in seconds.items())]
    said = f"{number:,} documents, {tags} tags: every document is examined once, in {base * 1000:.0f} ms."
    return "\n".join([said, "", *rows])


def _run(items: Collection[Document], stages: Stages) -> list[Document]:
    return list(items.aggregate([*stages, *ORDER]))


def _scan_each(items: Collection[Document]) -> Stages:
    """Return one pipeline that counts every tag by the index alone. Two commands, so not exact under writes."""
    scans: list[list[Mapping[str, Any]]] = [
        [{"$match": {"tags": tag}}, {"$count": "items"}, {"$set": {"_id": tag}}] for tag in items.distinct("tags")
    ]
    first, *others = scans
    return [*first, *({"$unionWith": {"coll": items.name, "pipeline": counted}} for counted in others)]


if __name__ == "__main__":
    sys.stdout.write(show(sys.argv[1]) + "\n")
