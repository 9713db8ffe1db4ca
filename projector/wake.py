"""Waking: the API says after a commit that there is work, so an idle lane need not wait for its next poll.

A lost notification costs one poll interval, never a message.
"""

import threading
from dataclasses import dataclass

from psycopg import Error, sql

from projector.bell import Bell
from projector.position import ClaimPosition
from projector.retry import retrying
from shared.outbox.wake import FROM_THE_START, Wake
from shared.postgres import WAKE_CHANNEL, connect
from shared.settings import Settings

LISTEN_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Woken:
    """Where lanes wait, and where they go on to claim."""

    bell: Bell
    position: ClaimPosition

    def wake(self, lowest: int) -> bool:
        """Have a lane look for the message `lowest`; return whether one comes at once."""
        self.position.take_back(lowest)
        return self.bell.ring()


class WakeListener:
    """Wakes a lane for each notification. One connection per projector, however many lanes it has."""

    def __init__(self, settings: Settings, name: str, lanes: Woken, awaited_lane: Woken) -> None:
        """`lanes` carry everything, `awaited_lane` only what clients wait for."""
        self._settings = settings
        self._name = name
        self._lanes = lanes
        self._awaited_lane = awaited_lane

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop` is set, reconnecting for as long as it takes."""
        for attempt in retrying(stop, (Error,)):
            with attempt:
                self._listen(stop)

    def _listen(self, stop: threading.Event) -> None:
        with connect(self._settings, self._name, autocommit=True) as connection:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(WAKE_CHANNEL)))
            # Whatever was committed while nobody listened is found by a claim from the start.
            self._wake(Wake(FROM_THE_START))
            while not stop.is_set():
                for notification in connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                    self._wake(Wake.decode(notification.payload))

    def _wake(self, wake: Wake) -> None:
        # Whoever would find nothing would keep the databases busy with it.
        is_served = wake.kind != "unawaited" and self._awaited_lane.wake(wake.lowest)
        if not (wake.kind == "awaited" and is_served):
            self._lanes.wake(wake.lowest)
