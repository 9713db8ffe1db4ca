"""Results as a picture: how far each ratio is from its target, with its interval. Right of the line is good."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.speed.benchmark import Result, Verdict

COLOURS: Final[dict[Verdict, str]] = {"met": "#2a7d4f", "undecided": "#b07d1a", "missed": "#b3372f"}
INCHES_PER_ROW: Final = 0.28


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the picture of `results` as SVG."""
    # Text stays text, and the same results are the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kata", "font.size": 9})
    figure = Figure(figsize=(8, 1 + INCHES_PER_ROW * len(results)), layout="constrained")
    axes = figure.subplots()
    for row, result in enumerate(reversed(results)):
        low, mean, high = sorted(_as_part_of_aim(result, each) for each in (result.low, result.mean, result.high))
        colour = COLOURS[result.verdict]
        axes.plot([low, high], [row, row], color=colour, linewidth=2)
        axes.plot([mean], [row], "o", color=colour, markersize=5)
    axes.axvline(1, color="#777777", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_yticks(range(len(results)), [result.name for result in reversed(results)])
    axes.set_xlabel("times better than its target, with the 95% interval")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _as_part_of_aim(result: Result, figure: float) -> float:
    """Return how many times better than aimed at a figure is, whichever direction is good."""
    at_most = result.target.startswith("≤")
    return result.aim / max(figure, 1e-9) if at_most else max(figure, 1e-9) / result.aim
