"""A long storm: `python -m tests.chaos.storm`. It ends by itself, shows how it goes on, and writes EVIDENCE.md's table.

The ledger and the logs stay below .chaos if anything was wrong.
"""

import shutil
import sys
import time
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Final

import typer

from tests.chaos.storm.faults import STORM
from tests.chaos.storm.report import table
from tests.chaos.storm.storm import rage

ROOT: Final = Path(__file__).parents[3]
RESULT: Final = ROOT / "benchmarks" / "evidence" / "chaos.md"


def main(
    minutes: Annotated[float, typer.Option(envvar="CHAOS_MINUTES", help="How long clients are at work.")] = 12,
    seed: Annotated[int | None, typer.Option(envvar="CHAOS_SEED", help="Of an earlier storm, to repeat it.")] = None,
) -> None:
    """Let a storm rage, and judge it. Exit code 1 when anything was wrong."""
    seed = SystemRandom().randrange(1_000_000) if seed is None else seed
    directory = ROOT / ".chaos" / str(seed)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    begun = time.monotonic()

    def say(text: str) -> None:
        typer.echo(f"{(time.monotonic() - begun) / 60:5.1f} min  {text}", err=True)

    course = rage(directory, seed, STORM, lambda course: course.seconds > minutes * 60, say)
    for finding in course.findings:
        typer.echo(str(finding), err=True)
    typer.echo(table(course))
    if course.findings:
        typer.echo(f"Wrong: {len(course.findings)}. The ledger and the logs are in {directory}", err=True)
        sys.exit(1)
    RESULT.write_text(f"{table(course)}\n", encoding="utf-8")
    shutil.rmtree(directory)
    typer.echo(f"Nothing was wrong. {RESULT.relative_to(ROOT)} is written", err=True)


if __name__ == "__main__":
    typer.run(main)
