"""What has to be done inside a running PostgreSQL before anything serves, and whether it was done already."""

import hashlib
from pathlib import Path

from devstack.errors import ServerError
from devstack.layout import CHECKOUT


def ensure_database(dsn: str, name: str) -> None:
    """Create the database unless it exists.

    The dsn leads to another database of the same server. Raises ServerError.
    """
    import psycopg  # noqa: PLC0415 - a fifth of a second that other commands need not spend
    from psycopg import sql  # noqa: PLC0415

    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        message = f"The database {name} cannot be made: {str(error).strip()}"
        raise ServerError(message) from None


def is_prepared(dsn: str, mark: Path) -> bool:
    """Whether the database is where the migrations of this checkout have left it, and has had its roles.

    Alembic itself would take a second to say so. Raises ServerError.
    """
    return mark.exists() and mark.read_text() == _prepared(dsn)


def remember_prepared(dsn: str, mark: Path) -> None:
    """To be called when it has been migrated and has its roles. Raises ServerError."""
    mark.write_text(_prepared(dsn))


def _prepared(dsn: str) -> str:
    """The migrations that there are, and the revision of the database, whoever has brought it there."""
    import psycopg  # noqa: PLC0415

    migrations = hashlib.sha256()
    for file in sorted((CHECKOUT / "alembic").rglob("*.py")):
        migrations.update(file.read_bytes())
    try:
        with psycopg.connect(dsn) as connection:
            revisions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except psycopg.errors.UndefinedTable:
        revisions = []
    except psycopg.Error as error:
        message = f"The database cannot be asked for its revision: {str(error).strip()}"
        raise ServerError(message) from None
    return f"{migrations.hexdigest()} {' '.join(sorted(revision for (revision,) in revisions))}\n"
