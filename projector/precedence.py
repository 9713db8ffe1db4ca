"""Clients who wait come first: while they are served, one of the lanes that carry everything stands back.

Two that put a bulk import through keep both databases and the interpreter so busy that a client's single write takes
several times as long. One goes on, so nothing stands still however many clients there are.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

# Clients who write one after the other are served in turn for as long as the pauses between them are shorter.
SECONDS: Final = 0.25


class Precedence:
    """Shared by the lanes of a process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0

    def served(self) -> None:
        """A client was served just now, and may come again."""
        self._until = self._clock() + SECONDS

    def stand_back(self, stop: threading.Event) -> None:
        """Wait until clients have not been served for a while, or `stop` is set."""
        while (left := self._until - self._clock()) > 0:
            if stop.wait(left):
                return
