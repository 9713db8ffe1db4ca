"""Every crash point x every fault: `python -m tests.chaos.crash_points`, a part of `make chaos`.

Writes the table that EVIDENCE.md shows, with --paths some rows of it; with --faults it writes nothing.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Final

import psycopg

from devstack.mongod import Mongod
from devstack.postgres import Postgres
from devstack.scratch import scratch_directory
from tests.chaos.crash_points import report
from tests.chaos.crash_points.case import Outcome
from tests.chaos.crash_points.faults import Fault
from tests.chaos.crash_points.matrix import run_path
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.paths import PATHS
from tests.chaos.crash_points.stage import Stage
from tests.fixtures.databases import alembic

# Most of a case is waiting.
STAGES: Final = 12
LINE_EVERY_SECONDS: Final = 5.0
LONGEST_LINE: Final = 1_500


class Stages:
    """Makes stages on servers of their own."""

    def __init__(self, postgres: Postgres, mongod: Mongod) -> None:
        self._postgres = postgres
        self._mongod = mongod
        self._numbers = count(1)
        self._execute("CREATE DATABASE migrated")
        alembic(postgres.dsn_of("migrated"), "upgrade", "head")

    def __call__(self, path: Path) -> Stage:
        """Return a stage for `path`."""
        name = f"stage_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE migrated")
        return Stage(path, self._postgres.dsn_of(name), self._mongod.uri, name)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._postgres.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def servers() -> Iterator[Stages]:
    """Run a PostgreSQL and a mongod."""
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory())
        settings = {"fsync": "off", "max_connections": "300"}
        postgres = stack.enter_context(Postgres.start(directory / "postgres", settings=settings))
        yield Stages(postgres, stack.enter_context(Mongod.start(directory / "mongo")))


class Teller:
    """Says on stderr how far it is, and at once what went wrong."""

    def __init__(self) -> None:
        self._done = self._wrong = 0
        self._next_line = 0.0

    def __call__(self, outcome: Outcome) -> None:
        """Count a case."""
        self._done += 1
        self._wrong += bool(outcome.wrong)
        if outcome.wrong:
            sys.stderr.write(f"{outcome}"[:LONGEST_LINE] + "\n")
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_SECONDS
            sys.stderr.write(f"{self._done:,} cases, {self._wrong} wrong; now {outcome.path}\n")


def main() -> None:
    """Run the matrix, or a part of it. Exit code 1 when anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.crash_points")
    parser.add_argument("--paths", default="", help=f"some of: {', '.join(PATHS)}")
    parser.add_argument("--faults", default="", help=f"some of: {', '.join(fault.value for fault in Fault)}")
    parser.add_argument("--stages", type=int, default=STAGES, help="how many cases run at a time")
    arguments = parser.parse_args()
    paths = [PATHS[name] for name in arguments.paths.split(",") if name] or list(PATHS.values())
    faults = [Fault(name) for name in arguments.faults.split(",") if name] or list(Fault)
    begun, tell = time.monotonic(), Teller()
    with servers() as new_stage:
        rows = [report.Row.of(path.name, *run_path(path, faults, new_stage, arguments.stages, tell)) for path in paths]
    sys.stdout.write(f"{report.table(rows)}\n{time.monotonic() - begun:.0f} s\n")
    if not arguments.faults:
        report.write(rows, PATHS)
    sys.exit(any(cell.well < cell.cases for row in rows for cell in row.cells))


if __name__ == "__main__":
    main()
