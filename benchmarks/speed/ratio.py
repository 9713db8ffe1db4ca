"""Ratios with their 95% interval: two alternatives in turn, until the interval is narrow or the time is up.

A pair is measured within seconds, so whatever else the machine does hits both alike, and ratios travel from one machine
to another, where times do not. The logarithms of the pairs' ratios are taken as normal; the interval is Student's.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

NARROW: Final = 0.05
FEWEST_ROUNDS: Final = 5
MOST_ROUNDS: Final = 200

# Student's t, two-sided 95%, by degrees of freedom; from 30 on it is within 2% of the normal distribution's 1.96.
STUDENT: Final = (
    12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pair:
    """One round: what either side came to, in the same unit."""

    ours: float
    other: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ours over the other's, and the bounds between which it lies with 95%."""

    mean: float
    low: float
    high: float
    rounds: int

    @property
    def half_width(self) -> float:
        """How far the bounds are from the mean, as a part of it."""
        return (self.high - self.low) / 2 / self.mean

    @property
    def is_narrow(self) -> bool:
        """Whether it is known to 5%."""
        return self.half_width <= NARROW

    def __str__(self) -> str:
        """Return it as a table shows it."""
        wide = "" if self.is_narrow else f", wider than {NARROW:.0%}"
        return f"{self.mean:.2f} ({self.low:.2f} to {self.high:.2f}{wide})"


def ratio_of(pairs: Sequence[Pair]) -> Ratio:
    """Return the geometric mean of the pairs' ratios with its interval; of one pair the interval has no bounds."""
    logarithms = [math.log(pair.ours / pair.other) for pair in pairs]
    mean = statistics.fmean(logarithms)
    if len(logarithms) == 1:
        return Ratio(math.exp(mean), 0.0, math.inf, 1)
    freedom = len(logarithms) - 1
    student = STUDENT[min(freedom, len(STUDENT)) - 1]
    half = student * statistics.stdev(logarithms) / math.sqrt(len(logarithms))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), len(logarithms))


def interleaved(
    ours: Callable[[], float],
    other: Callable[[], float],
    *,
    seconds: float,
    on_round: Callable[[Ratio], None],
    fewest: int = FEWEST_ROUNDS,
    warm_up: bool = True,
) -> list[Pair]:
    """Measure both in turn, each first every second time, until the ratio is known to 5% or `seconds` are over.

    The first pair is there to `warm_up` and does not count. At least `fewest` pairs are measured, however long they
    take.
    """
    if warm_up:
        _pair(ours, other, ours_first=True)
    pairs: list[Pair] = []
    until = time.monotonic() + seconds
    while len(pairs) < MOST_ROUNDS:
        pairs.append(_pair(ours, other, ours_first=len(pairs) % 2 == 0))
        ratio = ratio_of(pairs)
        on_round(ratio)
        if len(pairs) >= fewest and (ratio.is_narrow or time.monotonic() > until):
            break
    return pairs


def _pair(ours: Callable[[], float], other: Callable[[], float], *, ours_first: bool) -> Pair:
    if ours_first:
        our = ours()
        return Pair(our, other())
    their = other()
    return Pair(ours(), their)
