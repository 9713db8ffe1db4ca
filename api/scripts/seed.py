"""Fill the write model: `python api/scripts/seed.py [--users N --items M | --from FILE.jsonl]`.

Every row is committed with its message, so the projector carries all of it into the read models. A second run adds
nothing: a user is known by the address, an item by its owner and its name.

Exit codes: 0 good, 1 bad lines, 2 usage or configuration, 3 PostgreSQL could not be reached, 130 interrupted.
"""

import json
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import psycopg
import typer

from api.catalogue import repository
from api.catalogue.seeding import Totals, seed
from api.catalogue.source import open_source
from shared.garbage import collect_seldom
from shared.postgres import connect
from shared.progress import show_progress
from shared.settings import USAGE_ERROR, Settings

NAME: Final = "kata-seed"
BAD_LINES: Final = 1
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

File = Annotated[
    Path | None,
    typer.Option("--from", help="Import this catalogue (JSON Lines); - is standard input.", metavar="FILE"),
]
Users = Annotated[int, typer.Option(help="Make up so many users, the same ones every time.", min=0)]
Items = Annotated[int, typer.Option(help="Make up so many items that belong to them.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


@app.command()
def main(*, path: File = None, users: Users = 0, items: Items = 0, as_json: Json = False) -> None:
    """Fill the write model with demo data, a catalogue, or made-up users and items. A second run adds nothing."""
    if path is not None and (users or items):
        raise typer.BadParameter("a catalogue and made-up data exclude each other", param_hint="--from")
    if items and not users:
        raise typer.BadParameter("items need owners: add --users", param_hint="--items")
    settings = Settings.load_or_exit()
    # What the driver warns of while an import is broken off, nobody can do anything about; else it would print it.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    collect_seldom()
    totals, started = Totals(), time.monotonic()
    code = _run(settings, path, users, items, totals)
    seconds = round(time.monotonic() - started, 3)
    if as_json:
        typer.echo(json.dumps({**asdict(totals), "seconds": seconds}))
    else:
        typer.echo(
            f"Added {totals.users:,} users and {totals.items:,} items in {seconds:.1f} s; "
            f"{totals.already_there:,} were already there, {totals.bad_lines:,} lines were bad."
        )
    sys.exit(code)


def _run(settings: Settings, path: Path | None, users: int, items: int, totals: Totals) -> int:
    """Import and return the exit code; what went wrong is said on stderr."""
    try:
        with (
            open_source(path, users, items) as source,
            connect(settings, NAME, autocommit=True, **repository.SESSION) as connection,
            show_progress("lines", source.total) as progress,
        ):
            seed(connection, source.entries, progress, totals)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: what is committed stays, run it again to add the rest\n")
        return INTERRUPTED
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        sys.stderr.write("The write model has no tables, run `alembic upgrade head`\n")
        return UNREACHABLE
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        sys.stderr.write(f"PostgreSQL could not be reached: {_one_line(error)}\n")
        return UNREACHABLE
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
        sys.stderr.write(f"PostgreSQL refused, check DATABASE_URL: {_one_line(error)}\n")
        return USAGE_ERROR
    except OSError as error:
        sys.stderr.write(f"--from: {path} cannot be read: {error.strerror}\n")
        return USAGE_ERROR
    return BAD_LINES if totals.bad_lines else 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


if __name__ == "__main__":
    app()
