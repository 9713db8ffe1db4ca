"""What comes over a process, and where."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.chaos.crash_points.effects import MONGODB, POSTGRES, Moment


class Fault(Enum):
    """What happens at a point."""

    EXCEPTION = "exception"
    KILLED = "killed"
    POSTGRES_CUT = "PostgreSQL cut"
    MONGODB_CUT = "MongoDB cut"
    PAUSED = "paused"


# Whose network is cut.
CUTS: Final = {Fault.POSTGRES_CUT: POSTGRES, Fault.MONGODB_CUT: MONGODB}


class InjectedError(RuntimeError):
    """An error that nobody expects."""


@dataclass(frozen=True)
class Point:
    """Before or after an effect of a path; of several effects of one name, the how manieth."""

    moment: Moment
    effect: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.moment} {numbered(self.effect, self.number)}"


def numbered(effect: str, number: int) -> str:
    """Return what tells an effect from others of its name."""
    return effect if number == 1 else f"{effect} ({number})"


def loses_reply(point: Point, fault: Fault) -> bool:
    """Return whether a cut comes while the effect's answer is on its way: it is done, and nobody is told."""
    return point.moment == "after" and point.effect.startswith(CUTS.get(fault, " "))


class Recorder:
    """Takes note of every effect."""

    def __init__(self) -> None:
        self.effects: list[str] = []

    def __call__(self, moment: Moment, effect: str) -> None:
        """Take note of an effect before it is sent."""
        if moment == "before":
            self.effects.append(effect)


class Injection:
    """Lets a fault happen at a point, once. `arrive` tells the test, and for a cut waits until it is made."""

    def __init__(self, point: Point, fault: Fault, arrive: Callable[[], None]) -> None:
        # A reply is lost if the cut comes between request and reply, so it is prepared before.
        self._point = Point("before", point.effect, point.number) if loses_reply(point, fault) else point
        self._fault = fault
        self._arrive = arrive
        self._seen: Counter[tuple[Moment, str]] = Counter()

    def __call__(self, moment: Moment, effect: str) -> None:
        """Count the effects; at the point, let it happen."""
        self._seen[moment, effect] += 1
        if Point(moment, effect, self._seen[moment, effect]) != self._point:
            return
        self._arrive()
        if self._fault is Fault.KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault is Fault.PAUSED:
            os.kill(os.getpid(), signal.SIGSTOP)
        if self._fault is Fault.EXCEPTION:
            raise InjectedError(f"{self._point}")
