"""Results as a Markdown table, and as a section of EVIDENCE.md."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.speed.benchmark import Result
from benchmarks.speed.plot import draw

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = ROOT / "benchmarks" / "results"
SECTION: Final = ROOT / "benchmarks" / "evidence" / "speed.md"
PICTURE: Final = ROOT / "benchmarks" / "evidence" / "speed.svg"

HEADER = ("benchmark", "what", "target", "came to", "verdict")


def table(results: Sequence[Result]) -> str:
    """Return a row for each result, its notes in the row below it."""
    rows: list[Sequence[str]] = [HEADER, ["---"] * len(HEADER)]
    for result in results:
        notes = "; ".join(f"{name}: {value}" for name, value in result.notes.items())
        rows.append((f"`{result.name}`", result.measures, result.target, result.value, result.verdict))
        if notes:
            rows.append(("", notes, "", "", ""))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write_section(names: Sequence[str]) -> None:
    """Write the section of EVIDENCE.md, with its picture, from what was kept of these benchmarks."""
    kept = [json.loads(path.read_text(encoding="utf-8")) for name in names if (path := _kept(name)).exists()]
    results = [Result.from_json(each) for one in kept for each in one["results"]]
    commits = sorted({one["facts"]["commit"] for one in kept})
    draw(results, PICTURE)
    section = [
        f"Measured at {', '.join(commits)}. The raw rounds are in `benchmarks/results/`.",
        "",
        f"![Each ratio beside its target]({PICTURE.relative_to(ROOT)})",
        "",
        table(results),
    ]
    SECTION.write_text("\n".join(section) + "\n", encoding="utf-8")


def _kept(name: str) -> Path:
    return RESULTS / f"{name}.json"
