"""What each index of `items_read` adds to a write: the same documents without indexes, with each one, with all.

What is measured is the server's processor time, which hardly depends on what else the machine does. Writes are
acknowledged as the projector's are, by a majority and its journal, a thousand at a time.
`python -m benchmarks.index_cost URI` reads the items of that server's database `kata`.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Any, Final, NamedTuple

from pymongo import MongoClient, UpdateOne
from pymongo.database import Database

from shared.mongo import DURABLE
from shared.read_models import ITEMS_READ
from shared.read_models.read_model import Index

Document = dict[str, Any]

DOCUMENTS: Final = 10_000
ROUNDS: Final = 5
BATCH: Final = 1_000
SCRATCH: Final = "kata_index_cost"


class Figures(NamedTuple):
    """Processor seconds of the server."""

    insert: float
    update: float


def show(uri: str) -> str:
    """Return the costs as a Markdown table."""
    with MongoClient[Document](uri, tz_aware=True, retryWrites=False) as client:
        documents = list(client["kata"][ITEMS_READ.name].find({"deleted_at": None}).limit(DOCUMENTS))
        scratch = client.get_database(SCRATCH, write_concern=DURABLE)
        try:
            measured = _measure(scratch, documents)
        finally:
            client.drop_database(SCRATCH)
    base = measured["none"]
    rows = ["| indexes | insert | update |", "|---|---|---|"]
    rows += [
        f"| {name} | {each.insert / base.insert:.2f} | {each.update / base.update:.2f} |"
        for name, each in measured.items()
    ]
    return "\n".join(rows)


def _measure(scratch: Database[Document], documents: Sequence[Document]) -> Mapping[str, Figures]:
    """Return the medians of each variant, measured in turn."""
    variants: dict[str, Sequence[Index]] = {"none": ()}
    variants |= {f"`{index.name}`": (index,) for index in ITEMS_READ.indexes}
    variants |= {"all": ITEMS_READ.indexes}
    rounds: dict[str, list[Figures]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        _write(scratch, (), documents)  # not counted: the server still clears away what the last round left
        for name, indexes in variants.items():
            rounds[name].append(_write(scratch, indexes, documents))
    return {name: Figures(*map(median, zip(*figures, strict=True))) for name, figures in rounds.items()}


def _write(scratch: Database[Document], indexes: Sequence[Index], documents: Sequence[Document]) -> Figures:
    scratch.drop_collection(ITEMS_READ.name)
    items = scratch.create_collection(ITEMS_READ.name, validator=ITEMS_READ.validator)
    for index in indexes:
        items.create_index(list(index.keys), name=index.name, **index.options)
    batches = [documents[begin : begin + BATCH] for begin in range(0, len(documents), BATCH)]
    scratch.client.admin.command("fsync")  # else the last variant's checkpoint is charged to this one
    begun = _processor_seconds(scratch)
    for batch in batches:
        items.insert_many(batch, ordered=False)
    inserted = _processor_seconds(scratch)
    for batch in batches:
        items.bulk_write([_change(document) for document in batch], ordered=False)
    return Figures(inserted - begun, _processor_seconds(scratch) - inserted)


def _processor_seconds(scratch: Database[Document]) -> float:
    """Return what the server has used since it began (on Linux; nobody else must be using it)."""
    used = scratch.client.admin.command("serverStatus")["extra_info"]
    return int(used["user_time_us"] + used["system_time_us"]) / 1_000_000


def _change(document: Document) -> UpdateOne:
    """Return a PUT of one number, as it reaches the read model."""
    later = document["updated_at"] + timedelta(days=1)
    changed = {"quality": document["quality"] + 1, "version": document["version"] + 1, "updated_at": later}
    return UpdateOne({"_id": document["_id"]}, {"$set": changed})


if __name__ == "__main__":
    sys.stdout.write(show(sys.argv[1]) + "\n")
