"""Copying: what fills the shadow of a replay, beside the batches that write it as well: tombstones, rows, their owners.

All of it is done while the read models are held, in short transactions, in each of which the replay is surely at work.
A document that cannot be stored ends the replay.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Final, cast
from uuid import UUID

import psycopg
from pymongo.client_session import ClientSession
from pymongo.database import Database

from projector import replays, rows
from projector.deadline import Deadline
from projector.projections.gate import UnstorableDocumentError, Write, apply, write_of
from projector.projections.item import owner_of
from projector.projections.references import FanOut, correct_owners, fan_out_step
from projector.projections.registry import PROJECTIONS, Projection, project
from projector.replays import ReplayAtWork, ReplayCancelledError
from projector.shapes import ShapeError
from projector.swap import fail
from shared.background import in_background
from shared.events.event import Event
from shared.installation import InstallationChangedError
from shared.mongo import Document
from shared.outbox.departed import departed
from shared.read_models import ITEMS_READ, USERS_READ, Tombstone

# Rows that are read while the ones before them are written.
READ: Final = 1000


class Copying:
    """Copies one read model's rows. It knows nothing of where a replay is: that is said with each call."""

    def __init__(
        self,
        connection: psycopg.Connection,
        installation: UUID,
        database: Database[Document],
        aggregate_type: str,
        *,
        page_deadline_seconds: float,
        tolerated: tuple[type[ShapeError], ...],
    ) -> None:
        """`connection` and `installation` are what open_relay_connection returned."""
        self._connection = connection
        self._installation = installation
        self._database = database
        self._projection: Projection = PROJECTIONS[aggregate_type]
        self._aggregate_type = aggregate_type
        self._page_deadline_seconds = page_deadline_seconds
        self._tolerated = tolerated

    @contextmanager
    def step(self, replay: ReplayAtWork) -> Iterator[tuple[Deadline, ClientSession]]:
        """Hold the read models for one transaction, in which this replay is surely at work.

        Raises ReplayCancelledError when it is not, InstallationChangedError, and ReplayError, once the replay is ended,
        when a document cannot be stored.
        """
        deadline = Deadline.after(self._page_deadline_seconds)
        try:
            with (
                self._connection.transaction(),
                self._database.client.start_session(causal_consistency=True) as session,
            ):
                held = replays.hold_read_models(self._connection, tolerated=self._tolerated)
                if held.shadow is None or held.shadow.replay_id != replay.id:
                    raise ReplayCancelledError
                if held.incarnation != self._installation:
                    raise InstallationChangedError
                yield deadline, session
                deadline.remaining()
        except _RefusedError as error:
            fail(self._connection, self._database, replay.id, str(error))

    def copy_tombstones(self, replay: ReplayAtWork) -> None:
        """Put a tombstone into the shadow for whatever late messages could bring back."""
        with self.step(replay):
            gone = list(departed(self._connection, self._projection.read_model))
            (now,) = self._connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
        self._bury(replay, (Tombstone(_id=i, version=version, deleted_at=now) for i, version in gone))
        live = self._database[self._projection.read_model.name]
        self._bury(replay, iter(cast("Iterator[Tombstone]", live.find({"deleted_at": {"$type": "date"}}))))

    def copy_page(self, replay: ReplayAtWork, limit: int) -> tuple[int, int]:
        """Copy the next rows into the shadow; return the last id, and how many these were."""
        last, copied, left = replay.cursor, 0, list[FanOut]()
        with self.step(replay) as (deadline, session):
            writing = in_background(lambda: None)
            try:
                while copied < limit and (events := self._read(after=last, limit=min(READ, limit - copied))):
                    writes = [self._write(event) for event in events]
                    last, copied = events[-1].aggregate_id, copied + len(events)
                    if self._projection.is_owner:
                        left += [FanOut(owner_of(write.document)) for write in writes if write.version > 1]
                    writing.result()
                    writing = in_background(partial(self._put, replay, writes, deadline, session))
                writing.result()
            finally:
                # The transaction must not end before what is written under it.
                wait([writing])
        # A page of users may own any number of items: each step has a transaction and a deadline of its own.
        while left:
            with self.step(replay) as (deadline, session):
                left, refused = fan_out_step([self._database[ITEMS_READ.name]], left, READ, deadline, session)
                self._raise_refused(refused)
        return last, copied

    def _bury(self, replay: ReplayAtWork, tombstones: Iterator[Tombstone]) -> None:
        while page := list(islice(tombstones, READ)):
            with self.step(replay) as (deadline, session):
                # What has a row is not deleted, whatever the live collection says; a row that is gone never returns.
                alive = rows.versions_of(self._connection, self._projection.rows, [found["_id"] for found in page])
                writes = [write_of(found, is_new=True) for found in page if found["_id"] not in alive]
                self._apply(replay, writes, deadline, session)

    def _read(self, *, after: int, limit: int) -> Sequence[Event]:
        return rows.events_page(self._connection, self._aggregate_type, self._projection.rows, after=after, limit=limit)

    def _put(self, replay: ReplayAtWork, writes: Sequence[Write], deadline: Deadline, session: ClientSession) -> None:
        """Write documents into the shadow, items with the owners of now."""
        self._apply(replay, writes, deadline, session)
        if self._projection.owner_field:
            owners = {write.aggregate_id: write.owner for write in writes if write.owner}
            users, shadow = self._database[USERS_READ.name], self._database[replay.shadow]
            self._raise_refused(correct_owners(users, shadow, owners, deadline, session))

    def _write(self, event: Event) -> Write:
        try:
            # What the row says goes over what a message of the same version said: it may have had another shape.
            return write_of(project(event), self._projection.owner_field, is_repair=True, is_new=True)
        except UnstorableDocumentError as error:
            raise _RefusedError(f"{event.aggregate_type} {event.aggregate_id}: {error}") from error

    def _apply(self, replay: ReplayAtWork, writes: Sequence[Write], deadline: Deadline, session: ClientSession) -> None:
        self._raise_refused(apply(self._database[replay.shadow], writes, deadline, session).refused)

    def _raise_refused(self, refused: Mapping[int, str]) -> None:
        for aggregate_id, error in refused.items():
            raise _RefusedError(f"{self._aggregate_type} {aggregate_id}: {error}")


class _RefusedError(RuntimeError):
    """A document that the projection made cannot be stored."""
