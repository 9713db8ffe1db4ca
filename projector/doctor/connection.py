"""The connections on which checks look. Nothing a check asks may take long, or wait for a lock."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal

import psycopg
from psycopg.rows import dict_row
from pymongo import MongoClient

from projector.settings import ProjectorSettings
from shared.mongo import Document, create_client
from shared.postgres import connect
from shared.rights.role import Role

NAME: Final = "kata-doctor"
STATEMENT_TIMEOUT_MILLISECONDS: Final = 5_000
LOCK_TIMEOUT_MILLISECONDS: Final = 1_000

Row = Mapping[str, Any]
Account = tuple[str, Role, ProjectorSettings]


def accounts(settings: ProjectorSettings, variable: Literal["DATABASE_URL", "MONGO_URL"]) -> Iterator[Account]:
    """Yield under whom the commands of `projector` work on a server: the setting, as which role, and its settings."""
    yield variable, Role.PROJECTOR, settings
    if getattr(settings, f"maintenance_{variable.lower()}"):
        yield f"MAINTENANCE_{variable}", Role.MAINTENANCE, settings.for_maintenance()


def connect_postgres(settings: ProjectorSettings) -> psycopg.Connection:
    """Open a connection in autocommit mode."""
    return connect(
        settings,
        NAME,
        autocommit=True,
        statement_timeout=STATEMENT_TIMEOUT_MILLISECONDS,
        lock_timeout=LOCK_TIMEOUT_MILLISECONDS,
    )


def ask(settings: ProjectorSettings, statement: str, **parameters: object) -> Sequence[Row]:
    """Return the rows of one statement, asked on a connection of its own."""
    with connect_postgres(settings) as connection:
        return connection.cursor(row_factory=dict_row).execute(statement.encode(), parameters).fetchall()


@contextmanager
def mongo_client(settings: ProjectorSettings) -> Iterator[MongoClient[Document]]:
    """Open a client that gives a silent server up after the connect time-out."""
    with create_client(settings, NAME, timeoutMS=settings.connect_timeout_seconds * 1000) as client:
        yield client
