"""The purge of tombstones: what nobody can bring back any more leaves the read models.

A tombstone keeps late writes of its aggregate out. It goes only when none can come any more:

- no row of its aggregate is left in either outbox table;
- no replay is at work: one copies rows that it has read before;
- the aggregate was deleted days ago, by PostgreSQL's clock;
- an earlier round, an hour ago, has found the same. The delete may have been projected days after it happened, so its
  age alone does not say that the lanes of that time are gone; their deadline, minutes at most, and this hour do.

All of it is looked at, and the tombstone deleted, while the read models are held: no replay can begin in between.
What is deleted is that tombstone alone, by its version: a newer one, written after the look, stays.
"""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from typing import Any, Final, cast
from uuid import UUID

import psycopg
import pymongo
from psycopg.rows import scalar_row
from pymongo.database import Database

from projector import backlog, replays
from projector.deadline import Deadline
from projector.projections.gate import remove_tombstones
from projector.settings import ProjectorSettings
from shared.installation import InstallationChangedError
from shared.mongo import Document
from shared.postgres import TOMBSTONES_LOCK
from shared.read_models import READ_MODELS, ReadModel, Tombstone

BATCH: Final = 10_000
SEEN_BEFORE_SECONDS: Final = 3600.0

# One projector of the installation at a time; the others find nothing to do.
TAKE_TURN: Final = "SELECT pg_try_advisory_xact_lock(%(key)s)"

DAYS_AGO: Final = "SELECT clock_timestamp() - make_interval(days => %(days)s)"

Key = tuple[int, int]


class TombstonePurge:
    """Deletes old tombstones. It remembers since when it has seen each of those that it may delete later."""

    def __init__(
        self,
        settings: ProjectorSettings,
        open_connection: Callable[[], tuple[psycopg.Connection, UUID]],
        database: Database[Document],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`open_connection` returns what a relay works on: it has checked whose read models these are."""
        self._settings = settings
        self._open_connection = open_connection
        self._database = database
        self._clock = clock
        self._seen: dict[str, dict[Key, float]] = {read_model.name: {} for read_model in READ_MODELS}

    def run_once(self) -> int:
        """Delete up to a batch of tombstones of each read model and return how many."""
        connection, installation = self._open_connection()
        with closing(connection):
            return sum(self._purge(connection, installation, read_model) for read_model in READ_MODELS)

    def _purge(self, connection: psycopg.Connection, installation: UUID, read_model: ReadModel) -> int:
        deadline = Deadline.after(self._settings.batch_deadline_seconds)
        with connection.transaction():
            if not _value(connection, TAKE_TURN, key=TOMBSTONES_LOCK):
                return 0
            held = replays.hold_read_models(connection)
            if held.incarnation != installation:
                raise InstallationChangedError
            if held.shadow:
                self._seen[read_model.name] = {}
                return 0
            removable = self._removable(connection, read_model, deadline)
            due = self._seen_before(read_model, removable)
            return remove_tombstones(self._database[read_model.name], due, deadline)

    def _removable(
        self, connection: psycopg.Connection, read_model: ReadModel, deadline: Deadline
    ) -> Sequence[Tombstone]:
        """Return the oldest tombstones that are old enough and whose aggregates have no message left."""
        before = _value(connection, DAYS_AGO, days=self._settings.tombstone_days)
        with pymongo.timeout(deadline.remaining()):
            old = self._database[read_model.name].find({"deleted_at": {"$lt": before}}).sort("deleted_at", 1)
            tombstones = cast("list[Tombstone]", list(old.limit(BATCH)))
        ids = [tombstone["_id"] for tombstone in tombstones]
        unsettled: Collection[int] = backlog.unsettled(connection, read_model.aggregate_type, ids) if ids else ()
        return [tombstone for tombstone in tombstones if tombstone["_id"] not in unsettled]

    def _seen_before(self, read_model: ReadModel, removable: Sequence[Tombstone]) -> Sequence[Tombstone]:
        """Take note of the `removable`, forget all others, and return those noted long enough ago."""
        now, noted = self._clock(), self._seen[read_model.name]
        seen = {_key(tombstone): noted.get(_key(tombstone), now) for tombstone in removable}
        self._seen[read_model.name] = seen
        return [tombstone for tombstone in removable if now - seen[_key(tombstone)] >= SEEN_BEFORE_SECONDS]


def _key(tombstone: Tombstone) -> Key:
    return tombstone["_id"], tombstone["version"]


def _value(connection: psycopg.Connection, statement: str, **values: Any) -> Any:
    return connection.cursor(row_factory=scalar_row).execute(statement, values).fetchone()
