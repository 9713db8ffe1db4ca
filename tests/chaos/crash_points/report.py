"""What the matrix came to, as a table: a row per path and a column per fault."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, Self

from tests.chaos.crash_points.case import Outcome
from tests.chaos.crash_points.faults import Fault

RESULT: Final = Path(__file__).parents[3] / "benchmarks" / "evidence" / "crash_matrix.md"
HEAD: Final = ["path", "effects", *(fault.value for fault in Fault)]


@dataclass(frozen=True)
class Cell:
    """The cases of a path and a fault: how many went well, recovery in seconds, how much was delivered twice."""

    well: int
    cases: int
    usual: float
    longest: float
    twice: int

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Self:
        """Return what these came to."""
        seconds = [outcome.recovery_seconds for outcome in outcomes] or [0.0]
        well = sum(not outcome.wrong for outcome in outcomes)
        twice = sum(outcome.delivered_twice for outcome in outcomes)
        return cls(well, len(outcomes), median(seconds), max(seconds), twice)

    @classmethod
    def read(cls, text: str) -> Self:
        """Return a cell of a table that was written."""
        cases, seconds, twice = text.split("; ")
        (well, all_of_them), (usual, longest) = cases.split(" of "), seconds.replace(" s", "").split(", ")
        return cls(int(well), int(all_of_them), float(usual), float(longest), int(twice))

    def __str__(self) -> str:
        return f"{self.well} of {self.cases}; {self.usual:.1f} s, {self.longest:.1f} s; {self.twice}"


@dataclass(frozen=True)
class Row:
    """A path: how many effects it has, and a cell per fault."""

    path: str
    effects: int
    cells: Sequence[Cell]

    @classmethod
    def of(cls, path: str, effects: Sequence[str], outcomes: Sequence[Outcome]) -> Self:
        """Return what a path came to."""
        by_fault = ([outcome for outcome in outcomes if outcome.fault is fault] for fault in Fault)
        return cls(path, len(effects), [Cell.of(found) for found in by_fault])


def table(rows: Sequence[Row]) -> str:
    """Return the rows and the sum of all, without a median."""
    sums = [
        f"{sum(c.well for c in cells)} of {sum(c.cases for c in cells)}; {max(c.longest for c in cells):.1f} s; "
        f"{sum(c.twice for c in cells)}"
        for cells in zip(*(row.cells for row in rows), strict=True)
    ]
    body = [[row.path, str(row.effects), *map(str, row.cells)] for row in rows]
    lines = [HEAD, ["---"] * len(HEAD), *body, ["**all**", str(sum(row.effects for row in rows)), *sums]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(rows: Iterable[Row], paths: Iterable[str]) -> None:
    """Put these rows into the table of all `paths`, in place of those that are there."""
    known: Mapping[str, Row] = {row.path: row for row in [*_written(), *rows]}
    RESULT.write_text(f"{table([known[path] for path in paths if path in known])}\n", encoding="utf-8")


def _written() -> list[Row]:
    if not RESULT.exists():
        return []
    # Behind the head, and before the sum.
    # Behind the head, and before the sum.
    lines = [line.strip("| ").split(" | ") for line in RESULT.read_text(encoding="utf-8").splitlines()[2:-1]]
    return [Row(path, int(effects), [Cell.read(cell) for cell in cells]) for path, effects, *cells in lines]
