"""A look at a server that may hang, for those who must not: a scrape, a page."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from shared.background import in_background

# Whoever asks more often is told the same: looking costs the server something.
FRESH_SECONDS: Final = 1.0
# A look that is not quick (a walk over the dead rows that a long transaction keeps) costs this part of the time.
SHARE: Final = 0.1
QUICK_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 2.0

T = TypeVar("T")


class Look(Generic[T]):
    """Looks on a thread of its own, one look at a time, however many ask.

    An answer is not older than FRESH_SECONDS, or ten times what it took to find when that was long.
    """

    def __init__(self, look: Callable[[], T]) -> None:
        """`look` is called on a thread that nobody waits for when the process ends."""
        self._look = look
        self._lock = threading.Lock()
        self._found: Future[T] | None = None
        self._next = 0.0

    def answer(self) -> T:
        """Return what was found. Raises what looking raised, and TimeoutError when the server keeps silent."""
        return self.begin().result(PATIENCE_SECONDS)

    def begin(self) -> "Future[T]":
        """Look, unless somebody just did or does; return where what is found will be."""
        with self._lock:
            found = self._found
            if found is None or (found.done() and time.monotonic() > self._next):
                found = self._found = in_background(self._run)
            return found

    def _run(self) -> T:
        begun = time.monotonic()
        # What is away shall be seen as soon as it is back.
        self._next = begun + FRESH_SECONDS
        result = self._look()
        took = time.monotonic() - begun
        self._next = begun + max(FRESH_SECONDS, (took - QUICK_SECONDS) / SHARE)
        return result
