"""The effects of each path as they are known: whoever adds one or takes one away sees it in a diff.

`python -m tests.chaos.crash_points.pinned` writes them anew.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parent / "effects.txt"
COMMAND: Final = "python -m tests.chaos.crash_points.pinned"


def read() -> dict[str, list[str]]:
    """Return the effects of each path."""
    paths = (paragraph.split("\n") for paragraph in FILE.read_text(encoding="utf-8").strip().split("\n\n"))
    return {path: [effect.strip() for effect in effects] for path, *effects in paths}


def write(effects: Mapping[str, Sequence[str]]) -> None:
    """Pin these."""
    text = "\n\n".join("\n".join([path, *(f"    {effect}" for effect in these)]) for path, these in effects.items())
    FILE.write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Rehearse every path and pin what it does."""
    from tests.chaos.crash_points.__main__ import servers  # noqa: PLC0415 - it runs more than this
    from tests.chaos.crash_points.matrix import run_path  # noqa: PLC0415 - the same
    from tests.chaos.crash_points.paths import PATHS  # noqa: PLC0415 - the same

    with servers() as new_stage:
        write({name: run_path(path, [], new_stage)[0] for name, path in PATHS.items()})


if __name__ == "__main__":
    main()
