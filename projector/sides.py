"""The two sides that verify compares: the rows of an aggregate type, and a collection made from them.

Reads a page or the aggregates with some ids, never more, and as much of each as is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pymongo
from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from projector import backlog, lanes, rows
from projector.drift import Shown
from projector.projections.registry import Projection, project
from shared.mongo import Document
from shared.mongo_time import MongoTime

# Documents that are compared as a whole may be large.
PAGE: Final = 5000
DEEP_PAGE: Final = 500

# A member that is behind what is settled may be waited for, but not for ever.
READ_SECONDS: Final = 30

# A replay that swaps the collection ends the reads of the old one; the next one reads the new one.
READS: Final = 3
SWAPPED: Final = frozenset({43, 175})  # CursorNotFound, QueryPlanKilled

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
        return self._read({"_id": {"$gt": after}}, limit)

    def documents_of(self, ids: Sequence[int]) -> dict[int, Shown]:
        """Return those of the documents and tombstones that there are, with all that is settled by now."""
        return self._read({"_id": {"$in": list(ids)}}, len(ids), lanes.settled_time(self.connection))

    def in_flight(self, aggregate_type: str, ids: Sequence[int]) -> set[int]:
        """Return which of the aggregates have messages on their way."""
        return backlog.in_flight(self.connection, aggregate_type, ids) if ids else set()

    def id_ranges(self) -> list[tuple[int, int]]:
        """Return the first and the last id of either side that holds anything."""
        ends = [
            self.collection.find_one({"_id": {"$gt": BEFORE_ALL}}, {"_id": 1}, sort=[("_id", way)]) for way in (1, -1)
        ]
        stored = [end["_id"] for end in ends if end]
        return [found for found in (rows.id_range(self.connection, self.projection.rows), tuple(stored)) if found]

    def _read(self, which: Mapping[str, Any], limit: int, time: MongoTime | None = None) -> dict[int, Shown]:
        """Return documents in id order, as they were at `time` or after it."""

        def read() -> dict[int, Shown]:
            client = self.collection.database.client
            with pymongo.timeout(READ_SECONDS), client.start_session(causal_consistency=True) as session:
                if time:
                    # A secondary may be behind what is settled, and so may a primary that was deposed just now.
                    time.advance(session)
                # One more than there can be, so that they come in one reply.
                found = self.collection.find(which, self._fields, session=session).batch_size(limit + 1)
                return {document["_id"]: document for document in found.sort("_id", 1).limit(limit)}

        return Retrying(retry=retry_if_exception(_was_swapped), stop=stop_after_attempt(READS), reraise=True)(read)

    @property
    def _fields(self) -> list[str] | None:
        owner = self.projection.owner_field
        owner_fields = [f"{owner}.id", f"{owner}.version"] if owner else []
        return None if self.deep else ["version", "deleted_at", *owner_fields]


def _was_swapped(error: BaseException) -> bool:
    return isinstance(error, OperationFailure) and error.code in SWAPPED
