"""How every command of the CLI answers: exit codes, one sentence on stderr for an error, one object for --json."""

import json as json_module
import logging
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
    """Turn what went wrong into one sentence and an exit code. An error of ours keeps its traceback."""
    # The driver has its own words for a connection that broke inside a transaction; the sentence below says it.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except Exception as error:
        answer = _answer_to(error)
        if answer is None:
            raise
        fail(*answer)


def _answer_to(error: Exception) -> tuple[str, int] | None:
    from psycopg import InterfaceError, OperationalError, errors
    from pymongo.errors import OperationFailure, PyMongoError

    from projector.deadline import DeadlinePassedError
    from projector.replays import ReplayError, SwapUnfinishedError
    from projector.shapes import ShapeError
    from projector.subscriber import describe
    from shared.installation import ForeignReadModelsError, InstallationChangedError, NotMigratedError
    from shared.mongo import REFUSALS
    from shared.read_models_lock import ReadModelsInUseError

    answer: tuple[str, int] | None = None
    match error:
        case ForeignReadModelsError() | InstallationChangedError() | NotMigratedError():
            answer = str(error), FINDING
        case ReplayError() | ShapeError() | SwapUnfinishedError():
            answer = str(error), FINDING
        case errors.UndefinedTable() | errors.UndefinedColumn():
            answer = str(NotMigratedError()), FINDING
        case ReadModelsInUseError():
            answer = str(error), FINDING
        case errors.InsufficientPrivilege():
            answer = f"PostgreSQL refuses: {describe(error)}; {RIGHTS}", USAGE
        case errors.ReadOnlySqlTransaction():
            answer = f"PostgreSQL refuses: {describe(error)}; point DATABASE_URL at the primary", USAGE
        case OperationalError() | InterfaceError() | errors.IdleInTransactionSessionTimeout():
            answer = f"PostgreSQL could not be reached: {describe(error)}", UNREACHABLE
        case OperationFailure(code=code) if code in REFUSALS:
            answer = f"MongoDB refuses: {describe(error)}; {RIGHTS.replace('DATABASE', 'MONGO')}", USAGE
        case PyMongoError() | DeadlinePassedError():
            answer = f"MongoDB could not be reached: {describe(error)}", UNREACHABLE
    return answer


def print_answer(as_json: bool, values: Mapping[str, object], text: str) -> None:  # noqa: FBT001 - the option as it came
    """Print what the command found: `values` as one JSON object, or `text`."""
    typer.echo(json_module.dumps(values) if as_json else text)


def fail(sentence: str, code: int) -> NoReturn:
    """Say in one sentence what went wrong, and exit."""
    typer.echo(sentence, err=True)
    sys.exit(code)
