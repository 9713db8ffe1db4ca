"""PostgreSQL: is it there, does it take us and our writes, and has it connections left?"""

from collections.abc import Iterator
from typing import Final

import psycopg

from projector.doctor.connection import ask, connect_postgres
from projector.doctor.finding import Finding, Severity
from projector.settings import ProjectorSettings
from projector.subscriber import describe

# What the server's words mean, and what to do: the first that fits. Whoever is FATAL is there.
REFUSALS: Final = (
    (
        ("unsupported startup parameter",),
        "DATABASE_URL leads to a connection pooler",
        "name PostgreSQL itself in DATABASE_URL: notifications do not pass a pooler of transactions",
    ),
    (
        ("too many clients", "too many connections", "connection slots are reserved"),
        "PostgreSQL has no connection left for us",
        "stop what needs none, lower DATABASE_POOL_SIZE, or raise max_connections (or the limit of role or database)",
    ),
    (
        ("the database system is",),
        "PostgreSQL is not ready",
        "wait until it has started, and see its log if it does not",
    ),
    (
        ("FATAL:",),
        "PostgreSQL refuses us",
        'correct user, password and database in DATABASE_URL; try `psql "$DATABASE_URL" -c "SELECT 1"`',
    ),
    (
        ("",),
        "PostgreSQL cannot be reached",
        'start it, or correct host and port in DATABASE_URL; try `pg_isready -d "$DATABASE_URL"`',
    ),
)

WRITABLE: Final = "SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only')::bool AS read_only"

MISSING_RIGHTS: Final = """
    SELECT current_user AS role, current_schema AS schema, string_agg(DISTINCT relname, ', ') AS tables
    FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed
    WHERE relnamespace = current_schema::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
      AND NOT has_table_privilege(pg_class.oid, needed)
    HAVING count(*) > 0
"""

# Some connections are kept back for superusers and for monitoring. A session's type is not shown to everybody.
CONNECTIONS: Final = """
    WITH clients AS (
        SELECT coalesce(nullif(split_part(application_name, ' ', 1), ''), 'unnamed') AS name, count(*) AS number
        FROM pg_stat_activity WHERE datname IS NOT NULL AND usename IS NOT NULL AND leader_pid IS NULL GROUP BY 1
    )
    SELECT sum(number)::int AS used,
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
               - coalesce(current_setting('reserved_connections', true)::int, 0) AS most,
           string_agg(format('%%s %%s', number, name), ', ' ORDER BY number DESC) AS clients
    FROM clients
"""
NEARLY_ALL: Final = 0.9


def reach(settings: ProjectorSettings) -> Iterator[Finding]:
    """Connect as every process does."""
    try:
        connect_postgres(settings).close()
    except psycopg.OperationalError as error:
        text = describe(error)
        cause, remedy = next((cause, remedy) for words, cause, remedy in REFUSALS if any(w in text for w in words))
        yield Finding(f"{cause}: {text}", remedy)


def take_writes(settings: ProjectorSettings) -> Iterator[Finding]:
    """Ask whether it is a standby or read-only."""
    (row,) = ask(settings, WRITABLE)
    if row["standby"]:
        yield Finding(
            "PostgreSQL is a standby: it takes no writes",
            "name the primary in DATABASE_URL (of several hosts: `?target_session_attrs=read-write`); if the primary "
            'is lost for good: `psql "$DATABASE_URL" -c "SELECT pg_promote()"`, then the runbook\'s procedure for it',
        )
    elif row["read_only"]:
        yield Finding(
            "PostgreSQL takes no writes from us: default_transaction_read_only is on",
            'switch it off where it is set: `psql "$DATABASE_URL" -c '
            "\"SELECT source, sourcefile FROM pg_settings WHERE name = 'default_transaction_read_only'\"`",
        )


def grant_rights(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare what our role may do with the tables to what it must."""
    for row in ask(settings, MISSING_RIGHTS):
        yield Finding(
            f"the role {row['role']} may not both read and write {row['tables']}",
            "as the owner of the tables: `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "
            f'{row["schema"]} TO "{row["role"]}"`',
            details=row,
        )


def have_connections_left(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare the connections in use to the most there may be."""
    (row,) = ask(settings, CONNECTIONS)
    if row["used"] >= row["most"] * NEARLY_ALL:
        yield Finding(
            f"{row['used']} of PostgreSQL's {row['most']} connections are in use: {row['clients']}",
            "stop what does not need its connections, lower DATABASE_POOL_SIZE or run fewer API processes, or raise "
            "max_connections and restart PostgreSQL",
            Severity.WARNING,
            row,
        )
