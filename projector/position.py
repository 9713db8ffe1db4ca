"""Where the next claim starts, so that it does not walk over the dead rows of what was settled.

The position is a hint, never a truth: a late commit may carry a lower id. So it is taken back by wakes, and now and
then a sweep starts from the beginning.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from shared.outbox.wake import FROM_THE_START

SWEEP_SECONDS: Final = 1.0
# A sweep may cost at most this part of the time, however long one takes.
SWEEP_SHARE: Final = 0.1


class ClaimPosition:
    """The id after which claiming goes on: the last one claimed, or once a lower one. Shared by a projector's lanes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = FROM_THE_START
        self._lower: int | None = None
        self._next_sweep = clock()

    def start(self) -> int:
        """Return the id after which to claim now: 0 when a sweep is due."""
        with self._lock:
            lower, self._lower = self._lower, None
            if self._clock() >= self._next_sweep:
                self._next_sweep = self._clock() + SWEEP_SECONDS
                return FROM_THE_START
            return self._last if lower is None else min(self._last, lower)

    def claimed(self, last: int, *, seconds: float, swept: bool, full: bool) -> None:
        """Go on after `last`. `seconds` is what the claim took; a slow sweep comes less often.

        `full` says that the claim stopped at its limit: behind `last`, even if it is low, there may be more.
        """
        with self._lock:
            if full and last < self._last:
                self._go_below(last)
            self._last = max(self._last, last)
            if swept:
                self._next_sweep = self._clock() + max(SWEEP_SECONDS, seconds / SWEEP_SHARE)

    def take_back(self, lowest: int) -> None:
        """Let the next claim find the message `lowest`: it was just committed, kept, or given back."""
        with self._lock:
            self._go_below(max(lowest - 1, FROM_THE_START))

    def _go_below(self, after: int) -> None:
        self._lower = after if self._lower is None else min(self._lower, after)
