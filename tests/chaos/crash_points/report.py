"""What the matrix came to, as a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from tests.chaos.crash_points.case import Outcome
from tests.chaos.crash_points.faults import Fault

RESULT: Final = Path(__file__).parents[3] / "benchmarks" / "evidence" / "crash_matrix.md"


@dataclass
class Found:
    """The effects of each path, and the outcome of each case."""

    effects: dict[str, int] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, path: str, effects: Sequence[str], outcomes: Sequence[Outcome]) -> None:
        """Add what a path came to."""
        self.effects[path] = len(effects)
        self.outcomes += outcomes


def table(found: Found, faults: Sequence[Fault]) -> str:
    """Return a row per path and a column per fault, and the sum of all."""
    head = ["path", "effects", *(fault.value for fault in faults)]
    rows = [
        [
            path,
            str(effects),
            *(_cell([o for o in found.outcomes if o.path == path and o.fault is fault]) for fault in faults),
        ]
        for path, effects in found.effects.items()
    ]
    everything = ["**all**", str(sum(found.effects.values()))]
    everything += [_cell([o for o in found.outcomes if o.fault is fault]) for fault in faults]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows, everything])


def _cell(outcomes: Sequence[Outcome]) -> str:
    """Return how many cases went well, the median and the longest recovery, and what was delivered twice."""
    well = sum(not outcome.wrong for outcome in outcomes)
    seconds = [outcome.recovery_seconds for outcome in outcomes]
    twice = sum(outcome.delivered_twice for outcome in outcomes)
    return f"{well} of {len(outcomes)}; {median(seconds):.1f} s, {max(seconds):.1f} s; {twice}"
