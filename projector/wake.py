"""Waking: the API says after a commit that there is work, so an idle lane need not wait for its next poll.

A lost notification costs one poll interval, never a message.
"""

import threading
from collections.abc import Sequence

import psycopg
from psycopg import sql

from projector.position import FROM_THE_START, ClaimPosition
from projector.retry import retrying
from shared.postgres import WAKE_CHANNEL, connect
from shared.settings import Settings

LISTEN_SECONDS = 0.25


class WakeListener:
    """Turns notifications into set events. One connection per projector, however many lanes it has."""

    def __init__(
        self, settings: Settings, name: str, positions: Sequence[ClaimPosition], wakes: Sequence[threading.Event]
    ) -> None:
        self._settings = settings
        self._name = name
        self._positions = positions
        self._wakes = wakes

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop` is set, reconnecting for as long as it takes."""
        for attempt in retrying(stop, (psycopg.Error,)):
            with attempt:
                self._listen(stop)

    def _listen(self, stop: threading.Event) -> None:
        with connect(self._settings, self._name, autocommit=True) as connection:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(WAKE_CHANNEL)))
            # Whatever was committed while nobody listened is found by a claim from the start.
            self._wake(FROM_THE_START)
            while not stop.is_set():
                for notification in connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                    self._wake(_lowest_id(notification.payload))

    def _wake(self, lowest: int) -> None:
        for position in self._positions:
            position.take_back(lowest)
        for wake in self._wakes:
            wake.set()


def _lowest_id(payload: str) -> int:
    # Anybody may notify; what cannot be read still says that there is work.
    return int(payload) if payload.isascii() and payload.isdigit() else FROM_THE_START
