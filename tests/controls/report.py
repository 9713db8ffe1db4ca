"""The table of EVIDENCE.md."""

from collections.abc import Mapping

from tests.controls.control import Control
from tests.controls.trial import Trial

LONGEST = 160


def table(found: Mapping[Control, Trial], times: int) -> str:
    """Return a Markdown table: a row for each control, with the first of its tests and how that failed."""
    rows = [["guard", "serves", "without it", "noticed by", "which then fails"], ["---"] * 5]
    for control, trial in found.items():
        noticed = [(test, trial.assertion(test) or "") for test in control.tests]
        rows.append(
            [
                control.guard,
                control.serves,
                control.without,
                "<br>".join(_link(test) for test, _ in noticed),
                _in_one_line(noticed[0][1]),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _link(test: str) -> str:
    file, name = test.split("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}]({file})"


def _in_one_line(error: str) -> str:
    text = error.removeprefix("AssertionError: ").replace("|", "\\|").replace("`", "'")
    return f"`{text if len(text) <= LONGEST else text[:LONGEST] + '...'}`"
