"""What EVIDENCE.md shows of the controls."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.controls.control import Control
from tests.controls.trial import Trial

LONGEST: Final = 160
HEADER: Final = ("guard", "for", "without it", "noticed by", "whose assertion fails, and what it says then")


def table(found: Mapping[Control, Trial], times: int) -> str:
    """Return a Markdown table with a row for each control, and how its first test failed."""
    rows = [HEADER, ["---"] * len(HEADER), *(_row(control, trial) for control, trial in found.items())]
    said = f"{len(found)} guards, each taken away {times} times; every test named noticed every time."
    return "\n".join([said, "", *(f"| {' | '.join(row)} |" for row in rows), ""])


def _row(control: Control, trial: Trial) -> list[str]:
    files = dict.fromkeys(change.path for change in control.changes)
    where = ", ".join(f"[{Path(file).name}]({file})" for file in files)
    return [
        f"{control.guard} ({where})",
        control.serves,
        control.without,
        "<br>".join(_link(test) for test in control.noticed_by),
        "<br>".join(_code(text) for text in trial.assertion(control.noticed_by[0]) or ()),
    ]


def _link(test: str) -> str:
    file, name = test.split("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}]({file})"


def _code(line: str) -> str:
    text = line.removeprefix("AssertionError: ").replace("|", "\\|").replace("`", "'")
    return f"`{text if len(text) <= LONGEST else text[:LONGEST] + ' ...'}`"
