"""Verify: do the read models show what the write model holds?

Both sides are walked in id order, page by page, in bounded memory. What is in flight is never taken for drift: a
difference counts only when the row and its messages were the same before and after the document was looked at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import psycopg
from pymongo.database import Database

from projector import outbox, rows
from projector.projections.registry import Projection
from shared.mongo import Document

PAGE: Final = 5000
# An aggregate that changes between every two looks is in flight, however often one looks.
LOOKS: Final = 3

Kind = Literal["missing", "stale", "orphaned", "ahead"]


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference: the versions found, None where there is nothing."""

    kind: Kind
    aggregate_type: str
    aggregate_id: int
    row_version: int | None
    document_version: int | None

    def __str__(self) -> str:
        row, document = self.row_version, self.document_version
        return (
            f"{self.aggregate_type} {self.aggregate_id} is {self.kind}: row version {row}, document version {document}"
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """What MongoDB holds under an id."""

    version: int
    is_tombstone: bool


def compare(
    connection: psycopg.Connection,
    database: Database[Document],
    projection: Projection,
    on_page: Callable[[int], None] = lambda _: None,
) -> Iterator[Drift]:
    """Yield every difference of one read model. `on_page` is told how many rows each page compared."""
    after = 0
    while True:
        versions = rows.versions_page(connection, projection.rows, after=after, limit=PAGE)
        documents = _documents(database, projection, {"$gt": after}, limit=PAGE)
        # Both pages end at the lower of their ends; a page that is not full has no end.
        ends = [max(page) for page in (versions, documents) if len(page) == PAGE]
        end = min(ends) if ends else None
        wanted = {i: version for i, version in versions.items() if end is None or i <= end}
        found = {i: stored for i, stored in documents.items() if end is None or i <= end}
        suspects = [i for i in sorted(wanted | found) if _kind(wanted.get(i), found.get(i))]
        yield from _confirm(connection, database, projection, suspects)
        on_page(len(wanted))
        if end is None:
            return
        after = end


def _confirm(
    connection: psycopg.Connection, database: Database[Document], projection: Projection, suspects: Sequence[int]
) -> Iterator[Drift]:
    """Yield what stays different while row and messages stay the same around the look at the document."""
    aggregate_type = projection.read_model.aggregate_type
    for _ in range(LOOKS):
        if not suspects:
            return
        before = _settled_versions(connection, projection, suspects)
        documents = _documents(database, projection, {"$in": list(suspects)}, limit=len(suspects))
        after = _settled_versions(connection, projection, suspects)
        undecided = []
        for aggregate_id in suspects:
            row_version, stored = before.get(aggregate_id), documents.get(aggregate_id)
            kind = _kind(row_version, stored)
            if aggregate_id not in before or aggregate_id not in after or row_version != after[aggregate_id]:
                undecided.append(aggregate_id)
            elif kind:
                version = stored.version if stored else None
                yield Drift(kind, aggregate_type, aggregate_id, row_version, version)
        suspects = undecided


def _settled_versions(
    connection: psycopg.Connection, projection: Projection, ids: Sequence[int]
) -> Mapping[int, int | None]:
    """Return the versions of the rows, None for no row, without the aggregates that have messages on their way."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        in_flight = outbox.in_flight(connection, projection.read_model.aggregate_type, ids)
        versions = rows.versions_of(connection, projection.rows, ids)
    return {i: versions.get(i) for i in ids if i not in in_flight}


def _documents(
    database: Database[Document], projection: Projection, ids: Mapping[str, object], *, limit: int
) -> dict[int, Stored]:
    found = database[projection.read_model.name].find({"_id": ids}, {"version": 1, "deleted_at": 1})
    return {
        document["_id"]: Stored(document["version"], "deleted_at" in document)
        for document in found.sort("_id", 1).limit(limit).batch_size(limit + 1)
    }


def _kind(row_version: int | None, stored: Stored | None) -> Kind | None:
    """Return how the two differ, or None when the document shows the row."""
    if row_version is None:
        return "orphaned" if stored and not stored.is_tombstone else None
    if stored is None or (stored.is_tombstone and stored.version <= row_version):
        return "missing"
    if stored.version < row_version:
        return "stale"
    if stored.is_tombstone or stored.version > row_version:
        return "ahead"
    return None
