"""What operators and maintenance do beside the relays: replay, verify, repair, clean, purge."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from operator import attrgetter
from uuid import UUID

import psycopg
from pymongo.database import Database

from api.scripts.clean_mongo import clean
from projector import replays, swap
from projector.connection import open_relay_connection
from projector.drift import Drift
from projector.projections.registry import PROJECTIONS
from projector.repair import Repairs
from projector.replay import Replay
from projector.settings import ProjectorSettings
from projector.tombstones import TombstonePurge
from projector.verify import compare
from shared.mongo import Document
from shared.postgres import connect
from tests.model.pauses import PausingCursor
from tests.model.stage import without_stops

DEADLINE_SECONDS = 300


class Operators:
    """Acts of those who are no relays. Each opens connections of its own and closes them, however it ends."""

    def __init__(self, settings: ProjectorSettings, database: Database[Document], clock: Callable[[], float]) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self.begin_story()

    def begin_story(self) -> None:
        """Have seen no tombstone."""
        self._purge = TombstonePurge(self._settings, lambda: self._open("operator"), self._database, clock=self._clock)

    def replay(self, aggregate_type: str) -> str:
        """Rebuild a read model; one that was interrupted goes first. Return which one it was."""
        connection, installation = self._open("replay")
        with closing(connection), replays.taking_turn(connection):
            interrupted = replays.at_work(connection)
            first = interrupted.aggregate_type if interrupted else aggregate_type
            Replay(connection, installation, self._database, first, page_deadline_seconds=DEADLINE_SECONDS).run()
            return first

    def verify(self, connection: psycopg.Connection, *, repair: bool, on_drift: Callable[[Drift], None]) -> None:
        """Compare everything; `on_drift` is told each difference, which gets a repair if `repair`."""
        repairs = Repairs(connection)
        # Owners come last, as `projector verify` does it.
        for projection in sorted(PROJECTIONS.values(), key=attrgetter("is_owner")):
            collection = self._database[projection.read_model.name]
            for drift in compare(connection, collection, projection, deep=True):
                on_drift(drift)
                if repair:
                    repairs.add(drift)
        repairs.flush()

    def verify_beside_others(self, *, repair: bool, on_drift: Callable[[Drift], None]) -> None:
        """Do the same on a connection of its own."""
        with self._connect("verify") as connection:
            self.verify(connection, repair=repair, on_drift=on_drift)

    def clean(self) -> None:
        """Empty the read models."""
        with self._connect("operator") as connection:
            clean(connection, self._database)

    def cancel(self) -> None:
        """End the replay at work."""
        with self._connect("operator") as connection:
            swap.cancel(connection, self._database)

    def purge(self) -> int:
        """Delete old tombstones and return how many."""
        return self._purge.run_once()

    @contextmanager
    def _connect(self, name: str) -> Iterator[psycopg.Connection]:
        with closing(connect(self._settings, name, autocommit=True)) as connection:
            connection.cursor_factory = PausingCursor
            yield connection

    def _open(self, name: str) -> tuple[psycopg.Connection, UUID]:
        with without_stops():
            connection, installation = open_relay_connection(self._settings, name, self._database)
        connection.cursor_factory = PausingCursor
        return connection, installation
