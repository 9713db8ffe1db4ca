"""Runs migrations with the same settings as every process. A run is one transaction, and waits for locks are bounded.

A migration that waits for a lock stalls everything behind it, so it gives up after LOCK_TIMEOUT and changes nothing.
Another time: `alembic -x lock_timeout=5min upgrade head`.
"""

import sys

from alembic import context
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, create_engine, pool
from sqlalchemy.exc import OperationalError

import shared.outbox.record  # noqa: F401 - registers the outbox's tables in the metadata
from shared.postgres import ENGINE_URL, engine_arguments
from shared.settings import Settings
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
        context.run_migrations()


def run_online(settings: Settings) -> None:
    """Migrate the database that DATABASE_URL names."""
    lock_timeout = context.get_x_argument(as_dictionary=True).get("lock_timeout", LOCK_TIMEOUT)
    arguments = engine_arguments(settings, "kata-alembic", {"lock_timeout": lock_timeout})
    engine = create_engine(ENGINE_URL, connect_args=arguments, poolclass=pool.NullPool)
    try:
        connection = engine.connect()
    except OperationalError as error:
        sys.stderr.write(
            f"PostgreSQL cannot be reached, check DATABASE_URL: {str(error.orig).strip().splitlines()[-1]}\n"
        )
        sys.exit(SERVER_UNREACHABLE)
    with connection:
        try:
            run_migrations(connection)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            sys.stderr.write(f"A table was in use for {lock_timeout}, nothing was changed: try again\n")
            sys.exit(IN_USE)


if context.is_offline_mode():
    run_migrations()
else:
    run_online(Settings.load_or_exit())
