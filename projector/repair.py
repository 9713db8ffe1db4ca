"""Repair: messages that say once more what the write model holds, for documents that differ from it.

Nothing but the relay writes documents, so a repair is a message. It carries the row as it is under a lock, at the
row's own version, and the gate lets it through to a document of a lower or an equal version. Of a row that is gone the
message is a tombstone.

A document that is AHEAD of its row shows a version that no command has written, and the gate never goes back: so the
row's version is first raised above it. A tombstone, too, stands above whatever is shown or on its way.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, cast

import psycopg
from psycopg.rows import scalar_row
from pymongo.collection import Collection

from projector import rows
from projector.drift import Drift
from projector.projections.registry import PROJECTIONS
from shared.events.event import Event, deleted, repaired
from shared.mongo import Document
from shared.outbox.append import append_all

# Locked in id order, as by every other repair, before they are raised.
RAISE: Final = """
    WITH behind AS (
        SELECT {table}.id, shown.version
        FROM {table} JOIN unnest(%(ids)s::bigint[], %(versions)s::bigint[]) AS shown (id, version) USING (id)
        WHERE {table}.version < shown.version ORDER BY {table}.id FOR NO KEY UPDATE OF {table}
    )
    UPDATE {table} SET version = behind.version + 1 FROM behind WHERE {table}.id = behind.id
"""

# A statement of its own: what is read after it is the row that is locked, with the tags it has then.
LOCK: Final = "SELECT id FROM {table} WHERE id = ANY(%(ids)s) ORDER BY id FOR SHARE"

# What the messages of aggregates without a row say is older than their end. One scan, for all of them.
HIGHEST_VERSIONS: Final = """
    SELECT aggregate_id, max(aggregate_version) FROM (
        SELECT aggregate_id, aggregate_version FROM outbox
        WHERE aggregate_type = %(type)s AND aggregate_id = ANY(%(ids)s)
        UNION ALL
        SELECT aggregate_id, aggregate_version FROM outbox_failures
        WHERE aggregate_type = %(type)s AND aggregate_id = ANY(%(ids)s)
    ) AS message GROUP BY aggregate_id
"""

NOW: Final = "SELECT clock_timestamp()::timestamptz(3)"

BATCH: Final = 500
# No row can be raised above this one.
LAST_VERSION: Final = 2**31 - 1


class Repairs:
    """Appends repairs for drift, a batch in a transaction, and counts what got one."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._shown: dict[str, dict[int, int]] = {aggregate_type: {} for aggregate_type in PROJECTIONS}
        self._repaired = 0

    def add(self, drift: Drift) -> None:
        """Repair what differs; an owner that an item embeds at a version no user has is repaired in the end."""
        owner_id, owner_version = drift.owner_ahead or (0, 0)
        version = drift.document_version or 0
        if max(version, owner_version) >= LAST_VERSION:
            return
        self._repaired += 1
        self._note(drift.aggregate_type, drift.aggregate_id, version)
        if owner_id:
            self._note("user", owner_id, owner_version)
        if len(self._shown[drift.aggregate_type]) >= BATCH:
            self._append(drift.aggregate_type)

    def flush(self) -> int:
        """Append what is left, and return how many differences got a repair."""
        for aggregate_type in PROJECTIONS:
            self._append(aggregate_type)
        return self._repaired

    def _note(self, aggregate_type: str, aggregate_id: int, version: int) -> None:
        shown = self._shown[aggregate_type]
        shown[aggregate_id] = max(version, shown.get(aggregate_id, 0))

    def _append(self, aggregate_type: str) -> None:
        append_repairs(self._connection, aggregate_type, self._shown[aggregate_type])
        self._shown[aggregate_type].clear()


def shown_versions(collection: Collection[Document], ids: Iterable[int]) -> dict[int, int]:
    """Return the version that the read model shows of each of the aggregates, 0 where it shows nothing."""
    wanted = list(ids)
    found = collection.find({"_id": {"$in": wanted}}, {"version": 1})
    return dict.fromkeys(wanted, 0) | {document["_id"]: document["version"] for document in found}


def append_repairs(connection: psycopg.Connection, aggregate_type: str, shown: Mapping[int, int]) -> int:
    """Append a repair for each of the aggregates, in one transaction, and return how many messages these are.

    `shown` maps id -> the highest version the read models show of it, as shown_versions returns it, looked at before.
    An aggregate without a row gets a tombstone if the read model shows anything of it, and else nothing: its row may
    just not be committed yet. Raises psycopg.errors.NumericValueOutOfRange when a version is the last there can be.
    """
    projection = PROJECTIONS[aggregate_type]
    table, ids = projection.rows.table, sorted(shown)
    with connection.transaction():
        connection.execute(RAISE.format(table=table), {"ids": ids, "versions": [shown[i] for i in ids]})
        connection.execute(LOCK.format(table=table), {"ids": ids})
        found = rows.events_of(connection, aggregate_type, projection.rows, ids)
        events = [repaired(aggregate_type, e.aggregate_id, e.aggregate_version, e.payload) for e in found]
        events += _tombstones(connection, aggregate_type, _without_row(shown, events))
        append_all(connection.cursor(), events)
    return len(events)


def _without_row(shown: Mapping[int, int], events: Iterable[Event]) -> dict[int, int]:
    present = {event.aggregate_id for event in events}
    return {i: version for i, version in shown.items() if version and i not in present}


def _tombstones(connection: psycopg.Connection, aggregate_type: str, gone: Mapping[int, int]) -> list[Event]:
    if not gone:
        return []
    on_their_way: Mapping[int, int] = dict(
        connection.execute(HIGHEST_VERSIONS, {"type": aggregate_type, "ids": list(gone)}).fetchall()
    )
    now = cast("datetime", connection.cursor(row_factory=scalar_row).execute(NOW).fetchone())
    return [
        deleted(aggregate_type, i, max(version, on_their_way.get(i, 0)) + 1, now) for i, version in sorted(gone.items())
    ]
