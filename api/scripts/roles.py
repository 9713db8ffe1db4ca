"""Make the roles that migrations, the API, the projectors and maintenance work under: `python api/scripts/roles.py`.

Run by an administrator of both servers, whom DATABASE_URL and MONGO_URL name; `postgres` or `mongo` does one of them.
It may be run at any time, before the first migration or long after, and again: what is as it should be stays, and
the passwords that are given are set.

Exit codes: 0 good, 2 usage or configuration, 3 a server could not be reached.
"""

import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Final

import psycopg
import typer
from pydantic import Field, SecretStr
from pymongo.errors import OperationFailure, PyMongoError

from shared.mongo import create_client
from shared.postgres import connect
from shared.rights.mongo import make_users
from shared.rights.postgres import MissingPasswordError, make_roles
from shared.rights.role import Role
from shared.settings import USAGE_ERROR, Settings

NAME: Final = "kata-roles"
UNREACHABLE: Final = 3
# Handing a table over takes a lock that keeps everybody out of it for a moment.
LOCK_TIMEOUT_MILLISECONDS: Final = 10_000

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class RolesSettings(Settings):
    """How the roles are called, and their passwords."""

    roles_prefix: str = Field(
        default="kata", pattern=r"^[a-z][a-z0-9_]{0,40}$",
        description="What the roles' names begin with; of several installations on one server each has its own",
    )  # fmt: skip
    migration_password: SecretStr | None = Field(default=None, description="Of the role that owns the tables")
    api_password: SecretStr | None = Field(default=None, description="Of the API's role, in both servers")
    projector_password: SecretStr | None = Field(default=None, description="Of the projectors' role, in both servers")
    maintenance_password: SecretStr | None = Field(default=None, description="Of maintenance's role, in both servers")

    @property
    def passwords(self) -> Mapping[Role, str]:
        """The passwords that were given."""
        return {
            role: secret.get_secret_value()
            for role, secret in (
                (Role.MIGRATION, self.migration_password),
                (Role.API, self.api_password),
                (Role.PROJECTOR, self.projector_password),
                (Role.MAINTENANCE, self.maintenance_password),
            )
            if secret
        }


class Server(Enum):
    """The servers as the command line names them."""

    POSTGRES = "postgres"
    MONGO = "mongo"


ServerArgument = Annotated[Server | None, typer.Argument(help="Only in this one.", show_default="both")]


@app.command()
def main(server: ServerArgument = None) -> None:
    """Make the roles and give them the rights they need, in both servers; do it again after a restore."""
    settings = RolesSettings.load_or_exit()
    if server in {None, Server.POSTGRES}:
        _say("PostgreSQL", _in_postgres(settings))
    if server in {None, Server.MONGO}:
        _say("MongoDB", _in_mongo(settings))


def _in_postgres(settings: RolesSettings) -> Iterator[str]:
    with connect(settings, NAME, lock_timeout=LOCK_TIMEOUT_MILLISECONDS) as connection:
        yield from make_roles(connection, settings.roles_prefix, settings.passwords)


def _in_mongo(settings: RolesSettings) -> Iterator[str]:
    with create_client(settings, NAME) as client:
        yield from make_users(client, settings.mongo_database, settings.roles_prefix, settings.passwords)


def _say(server: str, done: Iterator[str]) -> None:
    """Say what was done, or what went wrong, and exit then. PostgreSQL does all of it or nothing."""
    try:
        lines = list(done)
    except MissingPasswordError as error:
        _fail(str(error), USAGE_ERROR)
    except psycopg.errors.LockNotAvailable:
        _fail(f"A table was in use for {LOCK_TIMEOUT_MILLISECONDS / 1000:.0f} s, nothing was changed: try again", 1)
    except psycopg.errors.InsufficientPrivilege as error:
        _fail(f"PostgreSQL refused, DATABASE_URL must name an administrator: {_one_line(error)}", USAGE_ERROR)
    except OperationFailure as error:
        _fail(f"MongoDB refused, MONGO_URL must name an administrator: {_one_line(error)}", USAGE_ERROR)
    except (psycopg.OperationalError, PyMongoError) as error:
        _fail(f"{server} could not be reached: {_one_line(error)}", UNREACHABLE)
    for line in lines or ["all is as it should be"]:
        typer.echo(f"{server}: {line}")


def _fail(sentence: str, code: int) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.exit(code)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).partition(", full error:")[0].split())[:300]


if __name__ == "__main__":
    app()
