"""A bell at which lanes wait for work: a ring wakes one of them, and finds it later when all are busy."""

import threading
import time
from typing import Final

# A lane that was here within so many seconds is about to come again.
PATIENCE_SECONDS: Final = 0.05


class Bell:
    """Safe to ring from any thread. A ring is remembered until a lane comes, and is never more than one."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_rung = False
        self._is_open = False
        self._waiting = 0
        self._last_left = time.monotonic()

    def ring(self) -> bool:
        """Wake a lane; return whether one comes at once, and not only after the batch that it has in hand."""
        with self._condition:
            self._is_rung = True
            self._condition.notify()
            return self._waiting > 0 or time.monotonic() - self._last_left < PATIENCE_SECONDS

    def hush(self) -> None:
        """Forget what was rung: the lane that calls this looks for work anyway."""
        with self._condition:
            self._is_rung = False
            self._last_left = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait for a ring, at most so long."""
        with self._condition:
            self._waiting += 1
            self._condition.wait_for(lambda: self._is_rung or self._is_open, seconds)
            self._waiting -= 1
            self._is_rung = False
            self._last_left = time.monotonic()

    def open(self) -> None:
        """Let everybody pass from now on: there is nothing to wait for any more."""
        with self._condition:
            self._is_open = True
            self._condition.notify_all()
