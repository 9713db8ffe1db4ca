"""A lane of a projector: it relays a batch an act, and its process is started anew when it was killed."""

from collections.abc import Callable
from uuid import UUID

import psycopg
from pymongo.database import Database

from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.outbox import Settlement
from projector.position import ClaimPosition
from projector.relay import BatchCounts, Relay
from projector.retry import TRANSIENT
from projector.settings import ProjectorSettings
from projector.suspects import Suspects
from shared.mongo import Document
from tests.model.pauses import PausingCursor
from tests.model.stage import KilledError, without_stops


class Lane:
    """One projector process with one lane. Whoever is told of its batches and faults is told on the lane's thread."""

    def __init__(
        self,
        name: str,
        settings: ProjectorSettings,
        database: Database[Document],
        clock: Callable[[], float],
        on_settled: Callable[[Settlement, float], None],
        on_batch: Callable[[BatchCounts], None],
        on_fault: Callable[[str, BaseException], None],
    ) -> None:
        self.name = name
        self._lane = f"{name} lane 0"
        self._settings = settings
        self._database = database
        self._clock = clock
        self._on_settled = on_settled
        self._on_batch = on_batch
        self._on_fault = on_fault
        self._connection: psycopg.Connection | None = None
        self._kept: UUID | None = None
        self._relay: Relay | None = None

    def begin_story(self, installation: UUID) -> None:
        """Be a process that has started and has not relayed anything. A connection that is open is kept."""
        if self._connection is None or self._connection.closed:
            self._connection, _ = self._open()
        self._kept = installation
        self._relay = self._started(None)

    def relay(self) -> None:
        """Relay one batch."""
        # A process that was killed is started anew, and takes what may have killed it one by one.
        self._relay = self._relay or self._started(Suspects([self._lane], self._settings.batch_size))
        try:
            self._on_batch(self._relay.run_once())
        except TRANSIENT as error:
            # The batch comes again.
            self._on_fault(self.name, error)
        except KilledError:
            self._relay = None
            raise

    def wake(self, message_id: int) -> None:
        """Say that a message was committed."""
        self._position.take_back(message_id)

    def close(self) -> None:
        """Give the connection up."""
        if self._connection:
            self._connection.close()

    def _started(self, suspects: Suspects | None) -> Relay:
        self._position = ClaimPosition(self._clock)
        return Relay(
            self._settings,
            self._open_or_take,
            Delivery.of(self._settings, self._database),
            self._position,
            name=self._lane,
            awaited_only=self.name == "serving",
            suspects=suspects,
            on_settled=self._on_settled,
        )

    def _open_or_take(self) -> tuple[psycopg.Connection, UUID]:
        kept, self._kept = self._kept, None
        if kept and self._connection:
            return self._connection, kept
        self._connection, installation = self._open()
        return self._connection, installation

    def _open(self) -> tuple[psycopg.Connection, UUID]:
        with without_stops():
            connection, installation = open_relay_connection(self._settings, self.name, self._database)
        connection.cursor_factory = PausingCursor
        return connection, installation
