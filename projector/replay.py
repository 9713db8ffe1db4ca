"""Replay: rebuild read models from the write model, through the same projections, the same gate and the same looks.

It writes into the live collections, beside running projectors: the gate passes over what is newer, and a page is
read and written while the read models are held, so nobody empties them in between. Readers and writers never stop.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import psycopg
from pymongo.client_session import ClientSession
from pymongo.database import Database

from projector import outbox, rows
from projector.deadline import Deadline
from projector.projections.gate import apply, write_of
from projector.projections.item import owner_of
from projector.projections.references import FanOut, correct_owners, fan_out_step
from projector.projections.registry import PROJECTIONS, project
from shared.installation import InstallationChangedError
from shared.mongo import Document

PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """What one step did: rows read, documents that were missing or older, and the id it reached."""

    rows: int
    applied: int
    reached: int


class Replay:
    """Rebuilds one read model after the other. `run_once` does one page and says how far it got."""

    def __init__(
        self,
        connection: psycopg.Connection,
        installation: UUID,
        database: Database[Document],
        page_deadline_seconds: float,
    ) -> None:
        """`connection` and `installation` are what open_relay_connection returned."""
        self._connection = connection
        self._installation = installation
        self._database = database
        self._page_deadline_seconds = page_deadline_seconds

    def run(self, aggregate_types: Sequence[str], on_page: Callable[[str, int, Page], None]) -> dict[str, int]:
        """Rebuild the read models of `aggregate_types` and return the rows read of each.

        `on_page` is told the aggregate type, how many rows there were at the start, and what each page did.
        """
        totals: dict[str, int] = {}
        # Users come first, so that the looks of items find them.
        for aggregate_type in (known for known in PROJECTIONS if known in aggregate_types):
            with self._connection.transaction():
                expected = rows.count(self._connection, PROJECTIONS[aggregate_type].rows)
            totals[aggregate_type] = reached = 0
            while True:
                page = self.run_once(aggregate_type, after=reached)
                if not page.rows:
                    break
                reached = page.reached
                totals[aggregate_type] += page.rows
                on_page(aggregate_type, expected, page)
        return totals

    def run_once(self, aggregate_type: str, *, after: int) -> Page:
        """Rebuild the next page of documents after the id `after`."""
        projection = PROJECTIONS[aggregate_type]
        left: list[FanOut] = []
        with self._step() as (deadline, session):
            events = rows.events_page(self._connection, aggregate_type, projection.rows, after=after, limit=PAGE)
            if not events:
                return Page(0, 0, after)
            writes = [write_of(project(event), projection.owner_field) for event in events]
            applied = apply(self._database[projection.read_model.name], writes, deadline, session)
            _raise_refused(aggregate_type, applied.refused)
            if projection.owner_field:
                owners = {write.aggregate_id: write.owner for write in writes if write.owner}
                _raise_refused(aggregate_type, correct_owners(self._database, owners, deadline, session))
            if projection.is_owner:
                left = [FanOut(owner_of(write.document)) for write in writes if write.version > 1]
        # A page of users may own any number of items: each step has a transaction and a deadline of its own.
        while left:
            with self._step() as (deadline, session):
                left, refused = fan_out_step(self._database, left, PAGE, deadline, session)
                _raise_refused(aggregate_type, refused)
        return Page(len(events), applied.applied, events[-1].aggregate_id)

    @contextmanager
    def _step(self) -> Iterator[tuple[Deadline, ClientSession]]:
        deadline = Deadline.after(self._page_deadline_seconds)
        with self._connection.transaction(), self._database.client.start_session(causal_consistency=True) as session:
            if outbox.hold_read_models(self._connection) != self._installation:
                raise InstallationChangedError
            yield deadline, session


def _raise_refused(aggregate_type: str, refused: Mapping[int, str]) -> None:
    for aggregate_id, error in refused.items():
        raise ReplayRefusedError(f"{aggregate_type} {aggregate_id}: {error}")


class ReplayRefusedError(RuntimeError):
    """MongoDB refused a document that the projection made. The message names the aggregate and the reason."""
