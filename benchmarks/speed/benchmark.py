"""What a benchmark is, and what it comes to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self

from benchmarks.speed.ratio import Pair, Ratio, interleaved, ratio_of
from benchmarks.speed.servers import Servers

Verdict = Literal["met", "missed", "undecided"]
FEWEST_LONG_ROUNDS: Final = 3
# A quick run takes one so manieth of the time.
QUICK_PART: Final = 10

Measure = Callable[[], float]
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a run may take: on one `part`th of the data, and the seconds bound each ratio.

    A `quick` one is a glance at everything: its figures say whether a benchmark works and where to look, no more.
    """

    quick: bool
    part: int = 1

    @property
    def seconds(self) -> float:
        """The time for the rounds of one ratio."""
        return 1.0 if self.quick else 45.0

    @property
    def fewest_rounds(self) -> int:
        """So many rounds at least."""
        return 2 if self.quick else 5

    @property
    def warm_up(self) -> bool:
        """Whether the first round only warms up."""
        return not self.quick

    def spell(self, seconds: float) -> float:
        """Return how long to measure what is worth `seconds` when there is time for them."""
        return seconds / QUICK_PART if self.quick else seconds

    def times(self, count: int) -> int:
        """Return how often to do what is worth `count` times when there is time for them; twice at least."""
        return max(2, count // QUICK_PART) if self.quick else count

    def of(self, count: int) -> int:
        """Return how many of `count` to work on."""
        return count // self.part


@dataclass(frozen=True, slots=True)
class Target:
    """What is aimed at: at least or at most so much."""

    value: float
    kind: Literal["least", "most"] = "least"
    stretch: float | None = None
    unit: str = ""

    def verdict(self, low: float, high: float) -> Verdict:
        """Judge an interval: it has to lie on one side of the target as a whole."""
        if self.kind == "most":
            low, high, value = -high, -low, -self.value
        else:
            value = self.value
        return "met" if low >= value else "missed" if high < value else "undecided"

    def __str__(self) -> str:
        """Return it as a table shows it."""
        sign = "≥" if self.kind == "least" else "≤"
        stretch = f", stretch {self.stretch:g}" if self.stretch else ""
        return f"{sign} {self.value:g}{self.unit and ' ' + self.unit}{stretch}"


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report: what was measured, its target, and what it came to.

    `pairs` are the rounds of a ratio, in `pair_unit`; `notes` are figures beside it, each with its unit.
    """

    name: str
    measures: str
    target: str
    value: str
    verdict: Verdict
    low: float
    mean: float
    high: float
    aim: float
    pairs: Sequence[tuple[float, float]] = ()
    pair_unit: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Return what to_json made."""
        return cls(**found)


Run = Callable[["Benchmark", Servers, Scale, Report], Sequence[Result]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A name, what is measured, what is aimed at, and how it is run."""

    name: str
    measures: str
    target: Target
    run: Run


Sides = Callable[[Servers, Scale], AbstractContextManager[tuple[Measure, Measure]]]


def ratio(  # noqa: PLR0913 - what a benchmark is, each part by its name
    name: str,
    measures: str,
    target: Target,
    sides: Sides,
    *,
    unit: str,
    takes_long: bool = False,
    notes: Callable[[], Mapping[str, str]] = dict,
) -> Benchmark:
    """Return the benchmark of a ratio. `sides` yields what measures ours and the other's, in `unit`.

    One that `takes_long`, minutes for each round, has only so many rounds as an interval needs, all of which count.
    """

    def run(benchmark: Benchmark, servers: Servers, scale: Scale, report: Report) -> Sequence[Result]:
        with sides(servers, scale) as (ours, other):
            pairs = interleaved(
                ours,
                other,
                seconds=scale.seconds,
                fewest=min(FEWEST_LONG_ROUNDS, scale.fewest_rounds) if takes_long else scale.fewest_rounds,
                warm_up=scale.warm_up and not takes_long,
                on_round=lambda so_far: report(str(so_far)),
            )
        return [of_pairs(benchmark, pairs, unit, notes())]

    return Benchmark(name, measures, target, run)


def of_pairs(benchmark: Benchmark, pairs: Sequence[Pair], unit: str, notes: Mapping[str, str]) -> Result:
    """Return what the rounds of a ratio came to."""
    found: Ratio = ratio_of(pairs)
    return Result(
        benchmark.name,
        benchmark.measures,
        str(benchmark.target),
        str(found),
        benchmark.target.verdict(found.low, found.high),
        found.low,
        found.mean,
        found.high,
        benchmark.target.value,
        [(pair.ours, pair.other) for pair in pairs],
        unit,
        dict(notes),
    )


def of_figures(
    benchmark: Benchmark, figures: Sequence[float], notes: Mapping[str, str] | None = None
) -> Sequence[Result]:
    """Return what single figures came to, judged by the lowest and the highest of them."""
    low, high = min(figures), max(figures)
    mean = sum(figures) / len(figures)
    unit = benchmark.target.unit
    value = f"{mean:.2f}{unit and ' ' + unit} ({low:.2f} to {high:.2f})"
    verdict = benchmark.target.verdict(low, high)
    aim = benchmark.target.value
    target = str(benchmark.target)
    said = dict(notes or {})
    return [Result(benchmark.name, benchmark.measures, target, value, verdict, low, mean, high, aim, notes=said)]


def named(benchmarks: Sequence[Benchmark], names: Sequence[str]) -> Iterator[Benchmark]:
    """Yield those whose name is or begins with one of `names`, or all. Raises ValueError for an unknown one."""
    for name in names:
        if not any(_is_named(benchmark, name) for benchmark in benchmarks):
            known: Final = ", ".join(benchmark.name for benchmark in benchmarks)
            raise ValueError(f"there is no benchmark {name}: there are {known}")
    yield from (each for each in benchmarks if not names or any(_is_named(each, name) for name in names))


def _is_named(benchmark: Benchmark, name: str) -> bool:
    return benchmark.name == name or benchmark.name.startswith(f"{name}-")
