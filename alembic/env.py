"""Runs migrations with the same settings as every process. A run is one transaction, and waits for locks are bounded.

A migration that waits for a lock stalls everything behind it, so it gives up after LOCK_TIMEOUT and changes nothing.
Another time: `alembic -x lock_timeout=5min upgrade head`.

Where api/scripts/roles.py has made roles, tables are made and changed as the role that owns them, whoever migrates. The
other roles get what they need of new ones in the same transaction.
"""

import sys
from typing import cast

import psycopg
from alembic import context
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from sqlalchemy import Connection, create_engine, pool
from sqlalchemy.exc import OperationalError, ProgrammingError

import shared.outbox.record  # noqa: F401 - registers the outbox's tables in the metadata
from shared.engine import ENGINE_URL, engine_arguments
from shared.rights.grants import become_owner, prefix_of, settle_grants
from shared.settings import USAGE_ERROR, Settings
from shared.write_model import METADATA

LOCK_TIMEOUT = "30s"
IN_USE = 1
SERVER_UNREACHABLE = 3


def run_migrations(connection: Connection | None = None) -> None:
    """Migrate over `connection`, or print the SQL when there is none."""
    context.configure(
        connection=connection,
        dialect_name="postgresql",
        target_metadata=METADATA,
        compare_type=True,
        compare_server_default=True,
        literal_binds=connection is None,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        if connection is None:
            context.run_migrations()
            return
        # The driver's own connection, in the same transaction.
        driver = cast("psycopg.Connection", connection.connection.driver_connection)
        become_owner(driver)
        context.run_migrations()
        # A version may need other rights without another table, so also when there was nothing to do.
        if is_migrating() and (prefix := prefix_of(driver)):
            settle_grants(driver, prefix)


def is_migrating() -> bool:
    """Whether this is an upgrade or a downgrade, and no command that only looks."""
    try:
        context.get_revision_argument()
    except KeyError:
        return False
    return True


def run_online(settings: Settings) -> None:
    """Migrate the database that the settings name."""
    lock_timeout = context.get_x_argument(as_dictionary=True).get("lock_timeout", LOCK_TIMEOUT)
    arguments = engine_arguments(settings, "kata-alembic", {"lock_timeout": lock_timeout})
    engine = create_engine(ENGINE_URL, connect_args=arguments, poolclass=pool.NullPool)
    try:
        connection = engine.connect()
    except OperationalError as error:
        variable = "MIGRATION_DATABASE_URL" if settings.migration_database_url else "DATABASE_URL"
        sys.stderr.write(f"PostgreSQL cannot be reached, check {variable}: {last_line(error)}\n")
        sys.exit(SERVER_UNREACHABLE)
    with connection:
        try:
            run_migrations(connection)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            sys.stderr.write(f"A table was in use for {lock_timeout}, nothing was changed: try again\n")
            sys.exit(IN_USE)
        except (ProgrammingError, InsufficientPrivilege) as error:
            if not isinstance(getattr(error, "orig", error), InsufficientPrivilege):
                raise
            owner = "MIGRATION_DATABASE_URL, or else DATABASE_URL, must name the owner of the tables"
            sys.stderr.write(f"PostgreSQL refused, nothing was changed; {owner}: {last_line(error)}\n")
            sys.exit(USAGE_ERROR)


def last_line(error: Exception) -> str:
    """Return the server's words without the statement."""
    return str(getattr(error, "orig", error)).strip().splitlines()[-1]


if context.is_offline_mode():
    run_migrations()
else:
    run_online(Settings.load_or_exit().for_migrations())
