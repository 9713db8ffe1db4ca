"""Results as a Markdown table."""

from collections.abc import Sequence

from benchmarks.speed.benchmark import Result

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
