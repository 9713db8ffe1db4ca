"""What the benchmarks of speed make of their figures. What they measure is measured by `make bench`."""

import math
from pathlib import Path

import pytest

from benchmarks.speed.benchmark import Benchmark, Result, Scale, Target, named, of_figures, of_pairs
from benchmarks.speed.plot import draw
from benchmarks.speed.ratio import MOST_ROUNDS, Pair, interleaved, ratio_of
from benchmarks.speed.registry import BENCHMARKS
from benchmarks.speed.report import table


def benchmark(target: Target) -> Benchmark:
    return Benchmark("some", "something over something else", target, lambda *_: [])


def test_the_interval_is_students_of_the_logarithms() -> None:
    ratio = ratio_of([Pair(math.exp(each), 1.0) for each in (0.1, 0.2, 0.3)])
    assert ratio.mean == pytest.approx(math.exp(0.2))
    # t(2) = 4.303, standard deviation 0.1, three rounds.
    assert ratio.high == pytest.approx(math.exp(0.2 + 4.303 * 0.1 / math.sqrt(3)))
    assert ratio.low * ratio.high == pytest.approx(ratio.mean**2)


def test_a_ratio_is_the_inverse_of_the_other_way_round() -> None:
    pairs = [Pair(2.0, 1.0), Pair(3.0, 2.0), Pair(5.0, 2.0)]
    there, back = ratio_of(pairs), ratio_of([Pair(pair.other, pair.ours) for pair in pairs])
    assert (there.mean, there.low) == pytest.approx((1 / back.mean, 1 / back.high))


def test_it_is_measured_in_turn_and_ends_once_it_is_narrow() -> None:
    order: list[str] = []
    ours, other = (lambda: order.append("ours") or 2.0), (lambda: order.append("other") or 1.0)
    pairs = interleaved(ours, other, seconds=60, on_round=lambda _: None)
    assert len(pairs) == 5
    assert order == ["ours", "other"] + ["ours", "other", "other", "ours"] * 2 + ["ours", "other"]


def test_one_that_does_not_become_narrow_ends_all_the_same_and_says_so() -> None:
    figures = iter(range(1, 10 * MOST_ROUNDS))
    pairs = interleaved(lambda: float(next(figures)), lambda: 1.0, seconds=600, on_round=lambda _: None)
    assert len(pairs) == MOST_ROUNDS
    assert "wider than 5%" in str(ratio_of(pairs))


def test_a_quick_run_takes_a_tenth_of_the_time_and_still_has_something_to_compare() -> None:
    quick, whole = Scale(quick=True), Scale(quick=False)
    assert (quick.spell(4.0), whole.spell(4.0)) == (0.4, 4.0)
    assert (quick.times(200), quick.times(7), whole.times(7)) == (20, 2, 7)
    assert quick.fewest_rounds >= 2


@pytest.mark.parametrize(
    ("target", "low", "high", "verdict"),
    [
        (Target(1.0), 1.0, 1.2, "met"),
        (Target(1.0), 0.9, 1.2, "undecided"),
        (Target(1.0), 0.8, 0.9, "missed"),
        (Target(1.2, "most"), 1.0, 1.2, "met"),
        (Target(1.2, "most"), 1.1, 1.3, "undecided"),
        (Target(1.2, "most"), 1.3, 1.4, "missed"),
    ],
)
def test_a_target_is_judged_by_the_whole_interval(target: Target, low: float, high: float, verdict: str) -> None:
    assert target.verdict(low, high) == verdict


def test_results_are_shown_kept_and_drawn(tmp_path: Path) -> None:
    (ratio,) = [of_pairs(benchmark(Target(1.0)), [Pair(2.0, 1.0), Pair(2.1, 1.0)], "events/s", {"version": "1"})]
    (seconds,) = of_figures(benchmark(Target(3, "most", unit="s")), [1.0, 2.0])
    assert [Result.from_json(each.to_json()) for each in (ratio, seconds)] == [ratio, seconds]
    assert "| `some` | something over something else | ≤ 3 s | 1.50 s (1.00 to 2.00) | met |" in table([ratio, seconds])
    draw([ratio, seconds], tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text(encoding="utf-8").count("some") == 2


def test_benchmarks_are_found_by_name_or_its_beginning() -> None:
    assert len({each.name for each in BENCHMARKS}) == len(BENCHMARKS)
    assert {each.name.partition("-")[0] for each in named(BENCHMARKS, ["drain", "seed"])} == {"drain", "seed"}
    assert list(named(BENCHMARKS, [])) == list(BENCHMARKS)
    with pytest.raises(ValueError, match="there is no benchmark dra: there are drain-creates"):
        list(named(BENCHMARKS, ["dra"]))
