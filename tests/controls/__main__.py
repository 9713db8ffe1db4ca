"""`make controls`: take every guard away in turn and see that its tests notice."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer

from devstack.mongod import Mongod
from devstack.postgres import Postgres
from devstack.scratch import scratch_directory
from tests.controls.catalogue import controls
from tests.controls.control import Control, RottenControlError
from tests.controls.report import table
from tests.controls.trial import Trial, copy_of, run, without_guard
from tests.fixtures.databases import ROOT, alembic

RESULT: Final = ROOT / "benchmarks" / "evidence" / "controls.md"
TEMPLATE: Final = "controls_template"
CPUS: Final = os.cpu_count() or 1

Names = Annotated[list[str] | None, typer.Argument(help="Those whose guards' names contain one of these; else all")]
ListThem = Annotated[bool, typer.Option("--list", help="List the controls, and end")]
Times = Annotated[int, typer.Option(help="How often each guard is taken away", min=1)]
Jobs = Annotated[int, typer.Option(help="How many at the same time", min=1)]


def main(names: Names = None, *, list_them: ListThem = False, times: Times = 1, jobs: Jobs = CPUS) -> None:
    """Take guards away, one at a time, each in a copy of the tree, and see that their tests notice."""
    chosen = [control for control in controls() if not names or any(name in control.guard for name in names)]
    if list_them:
        for control in chosen:
            typer.echo(f"{control.guard}: without it, {control.without}")
        return
    # Whatever ends this ends what it has started, also in the background of a shell, where SIGINT is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # All of them on the tree as it is now, whatever is edited meanwhile.
    with copy_of(ROOT) as source, ExitStack() as stack:
        _expect_texts(chosen, source)
        # Some tests end whatever sessions a server has, so trials at the same time have servers of their own.
        environments = [stack.enter_context(servers()) for _ in range(jobs)]
        asyncio.run(_expect_green(chosen, source, environments))
        trials = asyncio.run(_take_away(chosen, source, environments, times))
    unnoticed = [control for control in chosen if any(trial.missed(control) for trial in trials[control])]
    if unnoticed:
        _say(f"{len(unnoticed)} of {len(chosen)} guards can be taken away unnoticed")
        raise typer.Exit(1)
    _say(f"{len(chosen)} guards were taken away, {times} times each, and it was always noticed")
    if not names:
        RESULT.write_text(table({control: trials[control][0] for control in chosen}, times), encoding="utf-8")
        _say(f"{RESULT.relative_to(ROOT)} is written")


@contextmanager
def servers() -> Iterator[Mapping[str, str]]:
    """Yield the environment that names two servers, and a migrated database to clone."""
    with (
        scratch_directory() as directory,
        Postgres.start(directory / "postgres", settings={"fsync": "off"}) as postgres,
        Mongod.start(directory / "mongo") as mongod,
    ):
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {TEMPLATE}")
        alembic(postgres.dsn_of(TEMPLATE), "upgrade", "head")
        yield {"TEST_DATABASE_URL": postgres.dsn, "TEST_MONGO_URL": mongod.uri, "TEST_TEMPLATE": TEMPLATE}


def _expect_texts(chosen: Sequence[Control], source: Path) -> None:
    try:
        for control in chosen:
            control.texts_without(source)
    except RottenControlError as error:
        _say(str(error))
        raise typer.Exit(1) from error


async def _expect_green(chosen: Sequence[Control], source: Path, environments: Sequence[Mapping[str, str]]) -> None:
    tests = sorted({test for control in chosen for test in control.noticed_by})
    _say(f"{len(tests)} tests with every guard in place ...")

    disturbed: list[str] = []

    async def run_part(number: int, environment: Mapping[str, str]) -> None:
        part = tests[number :: len(environments)]
        if not part:
            return
        with copy_of(source) as tree:
            trial = await run(tree, part, environment)
        if found := trial.disturbed(part):
            disturbed.extend([*found, trial.output])

    async with asyncio.TaskGroup() as group:
        for number, environment in enumerate(environments):
            group.create_task(run_part(number, environment))
    if disturbed:
        _say("\n".join(["these are not green:", *disturbed]))
        raise typer.Exit(1)


async def _take_away(
    chosen: Sequence[Control], source: Path, environments: Sequence[Mapping[str, str]], times: int
) -> Mapping[Control, Sequence[Trial]]:
    free = asyncio.Queue[Mapping[str, str]]()
    for environment in environments:
        free.put_nowait(environment)
    done: dict[Control, list[Trial]] = {control: [] for control in chosen}

    async def take_away(control: Control) -> None:
        environment = await free.get()
        trial = await without_guard(control, source, environment)
        free.put_nowait(environment)
        done[control].append(trial)
        missed = trial.missed(control)
        number = sum(map(len, done.values()))
        _say(f"[{number}/{len(chosen) * times}] {'NOT NOTICED' if missed else 'noticed'}: {control.guard}")
        for line in missed:
            _say(f"    {line}")

    async with asyncio.TaskGroup() as group:
        for control in chosen:
            for _ in range(times):
                group.create_task(take_away(control))
    return done


def _say(text: str) -> None:
    typer.echo(text, err=True)


if __name__ == "__main__":
    typer.run(main)
