"""A process that works on the databases: the victim of a fault, another one beside it, or the one that comes after."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final, Self

import psycopg
from pymongo import MongoClient
from pymongo.database import Database

from projector.bell import Bell
from projector.connection import open_relay_connection
from projector.deadline import Deadline
from projector.delivery import Delivered, Delivery
from projector.handshake import Handshake
from projector.position import ClaimPosition
from projector.relay import BatchCounts, Relay
from projector.replays import Shadow
from projector.retry import retrying
from projector.settings import ProjectorSettings
from projector.suspects import Suspects
from shared.mongo import Document, read_model_database
from shared.outbox.message import OutboxMessage
from shared.outbox.wake import FROM_THE_START
from shared.postgres import connect
from tests.chaos.crash_points.effects import watching

# Between looks at what is left.
PAUSE_SECONDS: Final = 0.01

# A path's own progress, as a client or an operator would have noted it down.
Notes = dict[str, Any]


class ToldDelivery(Delivery):
    """Tells which messages it delivers."""

    tell: Callable[[list[int]], None]

    def deliver(self, messages: Sequence[OutboxMessage], deadline: Deadline, shadow: Shadow | None = None) -> Delivered:
        """Tell, then deliver."""
        self.tell([message.id for message in messages])
        return super().deliver(messages, deadline, shadow)


@dataclass
class Actor:
    """One process. `name` is its own on the whole server; `tell` reaches the test whatever happens next."""

    name: str
    settings: ProjectorSettings
    client: MongoClient[Document]
    tell: Callable[[str, Any], None]
    notes: Notes = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _position: ClaimPosition = field(default_factory=ClaimPosition)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def database(self) -> Database[Document]:
        """The read models."""
        return read_model_database(self.client, self.settings)

    @cached_property
    def connection(self) -> psycopg.Connection:
        """A connection in autocommit mode."""
        return self._stack.enter_context(closing(connect(self.settings, self.name, autocommit=True)))

    def open_relay_connection(self) -> tuple[psycopg.Connection, Any]:
        """Return what a lane works on, already checked."""
        connection, installation = open_relay_connection(self.settings, self.name, self.database)
        self._stack.callback(connection.close)
        return connection, installation

    def open_unwatched(self) -> tuple[psycopg.Connection, Any]:
        """Do the same where it is no part of the path: what happens on the way is the relay's first points."""
        with watching(is_on=False):
            return self.open_relay_connection()

    def note(self, **notes: Any) -> None:
        """Write something down that is known to whoever takes over."""
        self.notes |= notes
        self.tell("notes", self.notes)

    def relay(self, *, connected: bool = False) -> None:
        """Run a lane, in the loop that a projector runs it in, until it finds nothing to do.

        `connected`: long after its start, which is not watched, and shortly after hands were shaken.
        """
        relay = self.lane(connected=connected)
        stop = threading.Event()

        def on_batch(counts: BatchCounts) -> None:
            if is_idle(counts):
                stop.set()

        relay.run(stop, Bell(), on_batch, on_fault=self._on_fault)

    def lane(self, *, connected: bool = False) -> Relay:
        """Return a lane that is given up at the end of this process."""
        opened = [self.open_unwatched()] if connected else []
        delivery = ToldDelivery.of(self.settings, self.database)
        delivery.tell = partial(self.tell, "delivered")

        def open_connection() -> tuple[psycopg.Connection, Any]:
            return opened.pop() if opened else open_relay_connection(self.settings, self.name, self.database)

        lane = f"{self.name} lane 0"
        suspects = None if connected else Suspects([lane], self.settings.batch_size)
        hooks = {} if connected else self._handshakes()
        self._position = ClaimPosition()
        relay = Relay(
            self.settings,
            open_connection,
            delivery,
            self._position,
            name=lane,
            suspects=suspects,
            **hooks,
        )
        self._stack.callback(relay.close)
        return relay

    def _handshakes(self) -> dict[str, Any]:
        shaking = Handshake(self.settings, self.name, self.database)
        self._stack.callback(shaking._close)  # noqa: SLF001 - at the end of its own loop, which does not run here
        return {"before_writing": shaking.before_writing, "before_settling": shaking.before_settling}

    def settle_all(self, relay: Relay) -> None:
        """Wake the lane and step it, as often as it takes, until nothing is left.

        What somebody has in hand who is gone is left, too, until PostgreSQL has ended his session.
        """
        counts = BatchCounts(more=True)
        while not is_idle(counts) or self._is_anything_left():
            if is_idle(counts):
                time.sleep(PAUSE_SECONDS)
            self._position.take_back(FROM_THE_START)
            for attempt in retrying(threading.Event(), on_retry=self._on_fault):
                with attempt:
                    counts = relay.run_once()

    def _is_anything_left(self) -> bool:
        return self.connection.execute("SELECT 1 FROM outbox LIMIT 1").fetchone() is not None

    def _on_fault(self, error: BaseException, _: float) -> None:
        self.tell("waits", repr(error))


def is_idle(counts: BatchCounts) -> bool:
    """Return whether a step found nothing to do."""
    return not counts.claimed and not counts.more
