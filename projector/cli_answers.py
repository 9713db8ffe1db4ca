"""How every command of the CLI answers: exit codes, one sentence on stderr for an error, one object for --json."""

import json as json_module
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

FINDING = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130

RIGHTS = "MAINTENANCE_DATABASE_URL names who replays, verifies and repairs, DATABASE_URL who does the rest"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


@contextmanager
def reporting_faults() -> Iterator[None]:
    """Turn what went wrong into one sentence and an exit code."""
    import logging

    import psycopg
    from pymongo.errors import OperationFailure, PyMongoError

    from projector.deadline import DeadlinePassedError
    from projector.replays import ReplayError
    from projector.shapes import ShapeError
    from projector.subscriber import describe
    from shared.installation import ForeignReadModelsError, InstallationChangedError, NotMigratedError
    from shared.mongo import REFUSALS

    # The driver has its own words for a connection that broke inside a transaction; the sentence below says it.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    try:
        yield
    except (ForeignReadModelsError, InstallationChangedError, NotMigratedError, ReplayError, ShapeError) as error:
        fail(str(error), FINDING)
    except psycopg.errors.UndefinedTable:
        fail(str(NotMigratedError()), FINDING)
    except psycopg.errors.InsufficientPrivilege as error:
        fail(f"PostgreSQL refuses: {describe(error)}; {RIGHTS}", USAGE)
    except psycopg.OperationalError as error:
        fail(f"PostgreSQL could not be reached: {describe(error)}", UNREACHABLE)
    except OperationFailure as error:
        if error.code not in REFUSALS:
            fail(f"MongoDB could not be reached: {describe(error)}", UNREACHABLE)
        fail(f"MongoDB refuses: {describe(error)}; {RIGHTS.replace('DATABASE', 'MONGO')}", USAGE)
    except (PyMongoError, DeadlinePassedError) as error:
        fail(f"MongoDB could not be reached: {describe(error)}", UNREACHABLE)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)


def print_answer(as_json: bool, values: Mapping[str, object], text: str) -> None:  # noqa: FBT001 - the option as it came
    """Print what the command found: `values` as one JSON object, or `text`."""
    typer.echo(json_module.dumps(values) if as_json else text)


def fail(sentence: str, code: int) -> NoReturn:
    """Say in one sentence what went wrong, and exit."""
    typer.echo(sentence, err=True)
    sys.exit(code)
