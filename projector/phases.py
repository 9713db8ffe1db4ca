"""How long each phase of a batch took."""

import time
from collections.abc import Mapping
from typing import Final, Literal, get_args

# Hold the read models and claim; event -> document; documents to MongoDB; owners, and the items that embed them;
# outcomes to PostgreSQL, and its commit.
Phase = Literal["claim", "project", "write", "references", "settle"]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)


class Phases:
    """A watch that never stops: the time that passes belongs to the phase that ends next."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds: dict[Phase, float] = {}

    @property
    def seconds(self) -> Mapping[Phase, float]:
        """The time of each phase that has ended."""
        return self._seconds

    def ended(self, phase: Phase) -> None:
        """Count what passed since the last phase ended as `phase`."""
        now = time.monotonic()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
        self._last = now

    def include(self, seconds: Mapping[Phase, float]) -> None:
        """Count what somebody else timed since the last phase ended."""
        self._seconds |= seconds
        self._last = time.monotonic()
