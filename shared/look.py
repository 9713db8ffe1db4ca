"""A look at a server that may hang, for those who must not: a scrape, a page."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

# Whoever asks more often is told the same: looking costs the server something.
FRESH_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 2.0

T = TypeVar("T")


class Look(Generic[T]):
    """Looks on a thread of its own, one look at a time, however many ask. No answer is older than FRESH_SECONDS."""

    def __init__(self, look: Callable[[], T]) -> None:
        """`look` is called on a thread that nobody waits for when the process ends."""
        self._look = look
        self._lock = threading.Lock()
        self._found: Future[T] | None = None
        self._begun = 0.0

    def answer(self) -> T:
        """Return what was found. Raises what looking raised, and TimeoutError when the server keeps silent."""
        return self.begin().result(PATIENCE_SECONDS)

    def begin(self) -> "Future[T]":
        """Look, unless somebody just did or does; return where what is found will be."""
        with self._lock:
            found = self._found
            if found is None or (found.done() and time.monotonic() - self._begun > FRESH_SECONDS):
                found, self._begun = Future[T](), time.monotonic()
                self._found = found
                threading.Thread(target=self._run, args=(found,), name="look", daemon=True).start()
            return found

    def _run(self, found: "Future[T]") -> None:
        try:
            found.set_result(self._look())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            found.set_exception(error)
