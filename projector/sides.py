"""The two sides that verify compares: the rows of an aggregate type, and a collection made from them.

Reads a page or the aggregates with some ids, never more, and as much of each as is compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
import pymongo
from pymongo.collection import Collection

from projector import outbox, rows
from projector.drift import Shown
from projector.projections.registry import Projection, project
from shared.mongo import Document

# Documents that are compared as a whole may be large.
PAGE: Final = 5000
DEEP_PAGE: Final = 500

# A member that is behind what is settled may be waited for, but not for ever.
READ_SECONDS: Final = 30

BEFORE_ALL: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sides of a comparison: rows, and the collection that should show them."""

    connection: psycopg.Connection
    collection: Collection[Document]
    projection: Projection
    deep: bool = False

    @property
    def page(self) -> int:
        """How many rows and documents are held at once."""
        return DEEP_PAGE if self.deep else PAGE

    @property
    def aggregate_type(self) -> str:
        """What the rows and documents are of."""
        return self.projection.read_model.aggregate_type

    def rows_after(self, after: int, limit: int) -> dict[int, Shown]:
        """Return what the read model should show of the next aggregates after the id `after`."""
        source, name = self.projection.rows, self.aggregate_type
        if self.deep:
            events = rows.events_page(self.connection, name, source, after=after, limit=limit)
            return {event.aggregate_id: project(event) for event in events}
        return rows.versions_page(self.connection, source, after=after, limit=limit)

    def rows_of(self, ids: Sequence[int]) -> dict[int, Shown]:
        """Return what the read model should show of those of the aggregates that have a row."""
        source, name = self.projection.rows, self.aggregate_type
        if self.deep:
            return {e.aggregate_id: project(e) for e in rows.events_of(self.connection, name, source, ids)}
        return rows.versions_of(self.connection, source, ids)

    def documents_after(self, after: int, limit: int) -> dict[int, Shown]:
        """Return the next documents and tombstones after the id `after`."""
        found = self.collection.find({"_id": {"$gt": after}}, self._fields).sort("_id", 1)
        with pymongo.timeout(READ_SECONDS):
            return {document["_id"]: document for document in found.limit(limit).batch_size(limit + 1)}

    def documents_of(self, ids: Sequence[int]) -> dict[int, Shown]:
        """Return those of the documents and tombstones that there are, with all that is settled by now."""
        time = outbox.settled_time(self.connection)
        client = self.collection.database.client
        with pymongo.timeout(READ_SECONDS), client.start_session(causal_consistency=True) as session:
            if time:
                # A secondary, or a primary that was deposed and does not know it yet, may be behind what is settled.
                time.advance(session)
            found = self.collection.find({"_id": {"$in": list(ids)}}, self._fields, session=session)
            return {document["_id"]: document for document in found.batch_size(len(ids) + 1)}

    def in_flight(self, aggregate_type: str, ids: Sequence[int]) -> set[int]:
        """Return which of the aggregates have messages on their way."""
        return outbox.in_flight(self.connection, aggregate_type, ids) if ids else set()

    def id_ranges(self) -> list[tuple[int, int]]:
        """Return the first and the last id of either side that holds anything."""
        ends = [
            self.collection.find_one({"_id": {"$gt": BEFORE_ALL}}, {"_id": 1}, sort=[("_id", way)]) for way in (1, -1)
        ]
        stored = [end["_id"] for end in ends if end]
        return [found for found in (rows.id_range(self.connection, self.projection.rows), tuple(stored)) if found]

    @property
    def _fields(self) -> list[str] | None:
        owner = self.projection.owner_field
        owner_fields = [f"{owner}.id", f"{owner}.version"] if owner else []
        return None if self.deep else ["version", "deleted_at", *owner_fields]
