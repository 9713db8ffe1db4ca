"""`make controls`: take every guard away in turn and see that its tests notice."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer
from sqlalchemy.engine import make_url

from tests.controls.catalogue import CONTROLS
from tests.controls.control import Control
from tests.controls.report import table
from tests.controls.trial import Trial, copy_of_the_tree, run, without_guard
from tests.fixtures.databases import ROOT, alembic
from tests.fixtures.servers import running_servers

RESULT: Final = ROOT / "benchmarks" / "evidence" / "controls.md"
TEMPLATE: Final = "controls_template"


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Controls whose names contain one of these; else all")] = None,
    *,
    list_them: Annotated[bool, typer.Option("--list", help="List the controls, and end")] = False,
    times: Annotated[int, typer.Option(help="How often each guard is taken away", min=1)] = 1,
    jobs: Annotated[int, typer.Option(help="How many at the same time", min=1)] = os.cpu_count() or 1,
) -> None:
    """Take guards away, one at a time, each in a copy of the tree, and see that the tests notice."""
    chosen = [control for control in CONTROLS if not names or any(name in control.guard for name in names)]
    if list_them:
        for control in chosen:
            typer.echo(f"{control.guard}: without it, {control.without}")
        return
    with servers() as environment, ThreadPoolExecutor(jobs) as pool:
        _expect_green(chosen, environment)
        trials = {control: [pool.submit(without_guard, control, environment) for _ in range(times)] for control in chosen}
        good = [_judged(control, [trial.result() for trial in trials[control]]) for control in chosen]
    if not all(good):
        typer.echo(f"{good.count(False)} of {len(chosen)} guards can be taken away unnoticed", err=True)
        raise typer.Exit(1)
    typer.echo(f"{len(chosen)} guards were taken away, {times} times each, and it was always noticed", err=True)
    if not names:
        found = {control: trials[control][0].result() for control in chosen}
        RESULT.write_text(table(found, times) + "\n", encoding="utf-8")
        typer.echo(f"{RESULT.relative_to(ROOT)} is written", err=True)


@contextmanager
def servers() -> Iterator[Mapping[str, str]]:
    """Yield the environment that names two servers, and a migrated database to clone."""
    with running_servers() as (postgres, mongo):
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        alembic(make_url(postgres).set(database=TEMPLATE).render_as_string(hide_password=False), "upgrade", "head")
        yield {"TEST_DATABASE_URL": postgres, "TEST_MONGO_URL": mongo, "TEST_TEMPLATE": TEMPLATE}


def _expect_green(controls: Sequence[Control], environment: Mapping[str, str]) -> None:
    tests = sorted({test for control in controls for test in control.tests})
    typer.echo(f"{len(tests)} tests with every guard in place ...", err=True)
    with copy_of_the_tree() as tree:
        disturbed = run(tree, tests, environment).disturbed(tests)
    if disturbed:
        typer.echo("these are not green:\n" + "\n".join(disturbed), err=True)
        raise typer.Exit(1)


def _judged(control: Control, trials: Sequence[Trial]) -> bool:
    """Say what came out, and return whether all of it is as it must be."""
    missed = [missed for trial in trials for missed in trial.missed(control)]
    typer.echo(f"{'UNNOTICED' if missed else 'noticed'}  {control.guard}", err=True)
    for line in missed:
        typer.echo(f"    {line}", err=True)
    return not missed


if __name__ == "__main__":
    typer.run(main)
