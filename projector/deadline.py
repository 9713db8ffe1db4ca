"""The time by which a batch must have ended. Measured by a clock that goes on while the machine sleeps."""

import time
from dataclasses import dataclass
from typing import Self

# CLOCK_MONOTONIC stands still during a suspend, and the transaction's time-outs on the server do not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class DeadlinePassedError(TimeoutError):
    """The batch took longer than its deadline. Its transaction must be given up, nothing may be written any more."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time, in seconds of the boot clock."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Return the deadline `seconds` from now."""
        return cls(time.clock_gettime(_CLOCK) + seconds)

    def remaining(self) -> float:
        """Return the seconds left. Raises DeadlinePassedError when there are none."""
        if self.has_passed():
            raise DeadlinePassedError("the batch took longer than BATCH_DEADLINE_SECONDS")
        return self.at - time.clock_gettime(_CLOCK)

    def has_passed(self) -> bool:
        """Return whether the time is over."""
        return time.clock_gettime(_CLOCK) >= self.at
