"""Alternatives are measured in turn, round after round, so that whatever else the machine does hits all of them alike.

What comes out are ratios: they travel from one machine to another, times do not.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Final

ROUNDS: Final = 5


def medians(alternatives: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> Mapping[str, float]:
    """Return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    for _ in range(rounds):
        for name, run in alternatives.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(each) for name, each in seconds.items()}
