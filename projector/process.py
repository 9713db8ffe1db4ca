"""The projector process: lanes, a listener for wakes, housekeeping, a sampler and HTTP, stopped by one event."""

import os
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from projector.bell import Bell
from projector.connection import open_relay_connection
from projector.console.app import console
from projector.console.feed import Feed
from projector.console.server import ConsoleServer
from projector.delivery import Delivery
from projector.handshake import Handshake
from projector.housekeeping import Housekeeping
from projector.installation_metrics import InstallationCollector
from projector.lookout import Lookout
from projector.outbox import Settlement
from projector.position import ClaimPosition
from projector.precedence import Precedence
from projector.relay import BatchCounts, Relay
from projector.sampler import Sampler
from projector.settings import ProjectorSettings
from projector.subscriber import RelaySubscriber
from projector.suspects import Suspects
from projector.tombstones import TombstonePurge
from projector.wake import WakeListener, Woken
from shared.mongo import create_client, read_model_database
from shared.telemetry import Tracing

# One serves waiting clients. Of the others one waits for PostgreSQL while the other waits for MongoDB; the last one
# stands back while clients are served.
LANES: Final = 3

# A lane comes back from a server several times in a batch. While another lane computes, the interpreter would let it
# wait for five milliseconds each time: the one write of a client for a bulk import.
SWITCH_SECONDS: Final = 0.0005


class Projector:
    """Everything that one projector process runs. `stop` ends it after the batches in hand."""

    def __init__(self, settings: ProjectorSettings, stop: threading.Event, tracing: Tracing | None = None) -> None:
        self.name = f"kata-projector {socket.gethostname()}:{os.getpid()}"
        self._settings = settings
        self._stop = stop
        self._subscriber = RelaySubscriber(LANES)
        self._failed = threading.Event()
        self._client = create_client(settings, self.name)
        database = read_model_database(self._client, settings)
        delivery = Delivery.of(settings, database)
        open_connection = partial(open_relay_connection, settings, self.name, database)
        position, awaited_position = ClaimPosition(), ClaimPosition()
        bell, awaited_bell = Bell(), Bell()
        on_settled = _spans(tracing) if tracing else None
        lanes = [f"{self.name} lane {lane}" for lane in range(LANES)]
        suspects = Suspects(lanes, settings.batch_size)
        self._precedence = Precedence()
        self._handshake = Handshake(settings, self.name, database)
        # The first lane serves waiting clients alone.
        self._bells = [awaited_bell, *(bell for _ in lanes[1:])]
        self._relays = [
            Relay(
                settings,
                open_connection,
                delivery,
                awaited_position if lane == 0 else position,
                name=name,
                awaited_only=lane == 0,
                suspects=suspects,
                before_writing=self._handshake.before_writing,
                before_settling=self._handshake.before_settling,
                on_settled=on_settled,
            )
            for lane, name in enumerate(lanes)
        ]
        self._listener = WakeListener(settings, self.name, Woken(bell, position), Woken(awaited_bell, awaited_position))
        self._lookout = Lookout(settings, self.name, database)
        self._subscriber.registry.register(InstallationCollector(self._lookout))
        self._feed = Feed(self._lookout)
        self._console = console(settings, self._subscriber, self.name, self._lookout, self._feed)
        housekeeping = partial(open_relay_connection, settings, f"{self.name} housekeeping", database)
        tombstones = TombstonePurge(settings, housekeeping, database)
        self._housekeeping = Housekeeping(settings, self.name, tombstones)
        self._sampler = Sampler(settings, self.name, database)

    def run(self) -> bool:
        """Run until stopped. Returns whether it ended well: false when a lane broke off on an error of ours."""
        sys.setswitchinterval(SWITCH_SECONDS)
        address, port = self._settings.http_address, self._settings.projector_http_port
        server = ConsoleServer(self._console, address, port, self._feed)
        parts: list[Callable[[], None]] = [lambda: self._listener.run(self._stop)]
        parts += [self._lane(lane) for lane in range(LANES)]
        parts.append(lambda: self._housekeeping.run(self._stop, self._subscriber.purged, self._subscriber.purge_failed))
        parts.append(lambda: self._sampler.run(self._stop, self._subscriber.sampled, self._subscriber.sample_failed))
        threads = [threading.Thread(target=self._guard(part), name=f"part-{n}") for n, part in enumerate(parts)]
        lanes_ended = threading.Event()
        handshake = threading.Thread(target=self._guard(lambda: self._shake_hands(lanes_ended)), name="handshake")
        with server:
            self._subscriber.started(self.name, server.port)
            self._settings.warn_of_exposure()
            for thread in (*threads, handshake):
                thread.start()
            self._stop.wait()
            self._subscriber.draining()
            for bell in self._bells:
                bell.open()
            for thread in threads:
                thread.join()
            lanes_ended.set()
            handshake.join()
        self.close()
        self._subscriber.stopped()
        return not self._failed.is_set()

    def close(self) -> None:
        """Give the connections to MongoDB up."""
        self._client.close()

    def _lane(self, lane: int) -> Callable[[], None]:
        def run() -> None:
            self._relays[lane].run(
                self._stop,
                self._bells[lane],
                on_batch=lambda counts: self._after_batch(lane, counts),
                on_fault=lambda error, seconds: self._subscriber.fault(lane, error, seconds),
            )

        return run

    def _after_batch(self, lane: int, counts: BatchCounts) -> None:
        if counts.settled:
            self._handshake.settled()
        self._subscriber.batch(lane, counts)
        if lane == 0 and counts.claimed:
            self._precedence.served()
        elif lane == LANES - 1:
            self._precedence.stand_back(self._stop)

    def _shake_hands(self, stop: threading.Event) -> None:
        def look_anew() -> None:
            for relay in self._relays:
                relay.look_anew()

        self._handshake.run(stop, on_refused=look_anew)

    def _guard(self, part: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                part()
            except Exception as error:  # noqa: BLE001 - an error of ours ends the process, which is then started anew
                self._subscriber.broke_off(error)
                self._failed.set()
                self._stop.set()

        return run


def _spans(tracing: Tracing) -> Callable[[Settlement, float], None]:
    from projector.tracing import BatchSpans  # noqa: PLC0415 - it needs the extra `tracing`, which may be missing

    return BatchSpans(tracing).settled
