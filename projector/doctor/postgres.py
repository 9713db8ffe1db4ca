"""PostgreSQL: is it there, does it take us and our writes, and has it connections left?"""

from collections.abc import Iterator
from typing import Final

import psycopg

from projector.doctor.connection import accounts, ask, connect_postgres
from projector.doctor.finding import Finding, Severity
from projector.settings import ProjectorSettings
from projector.subscriber import describe
from shared.rights.grants import GRANTED, lacking, missing_and_excess, prefix_of, statements
from shared.rights.role import Role
from shared.rights.tables import Right, in_words

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
        ("certificate", "SSL error", "support SSL"),
        "PostgreSQL cannot be trusted, or does not trust us",
        "sslrootcert in DATABASE_URL must name who signed PostgreSQL's certificate, sslcert and sslkey ours if it asks",
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

# Of the roles that api/scripts/roles.py makes those that there are.
EXISTS: Final = "SELECT to_regrole(%s) IS NOT NULL"

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

MAKE_ROLES: Final = "as an administrator: `python api/scripts/roles.py`"
WORK: Final = {
    Role.API: "the API",
    Role.PROJECTOR: "a projector",
    Role.MAINTENANCE: "whoever replays, repairs or cleans",
}


def reach(settings: ProjectorSettings) -> Iterator[Finding]:
    """Connect as every process does."""
    for variable, _, account in accounts(settings, "DATABASE_URL"):
        try:
            connect_postgres(account).close()
        except psycopg.OperationalError as error:
            text = describe(error)
            cause, remedy = next((cause, remedy) for words, cause, remedy in REFUSALS if any(w in text for w in words))
            yield Finding(f"{cause}: {text}", remedy.replace("DATABASE_URL", variable))
            return


def take_writes(settings: ProjectorSettings) -> Iterator[Finding]:
    """Ask whether it is a standby or read-only."""
    (row,) = ask(settings, WRITABLE)
    if row["standby"]:
        yield Finding(
            "PostgreSQL is a standby: it takes no writes",
            "name the primary in DATABASE_URL (of several hosts: `?target_session_attrs=read-write`); if the primary "
            "is lost for good, as an administrator: `SELECT pg_promote()`, then the runbook's procedure for it",
        )
    elif row["read_only"]:
        yield Finding(
            "PostgreSQL takes no writes from us: default_transaction_read_only is on",
            "switch it off where it is set, as an administrator sees it: "
            "`SELECT source, sourcefile FROM pg_settings WHERE name = 'default_transaction_read_only'`",
        )


def grant_rights(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare what our roles may do with the tables to what they must; of roles that were made for us, all of them."""
    ours = {connected_as(account): role for _, role, account in accounts(settings, "DATABASE_URL")}
    with connect_postgres(settings) as connection:
        prefix = prefix_of(connection)
        made = {role.name_in(prefix): role for role in GRANTED} if prefix else {}
        for name, role in {**made, **ours}.items():
            if connection.execute(EXISTS, (name,)).fetchone() != (True,):
                continue
            if missing := lacking(connection, role, name):
                yield Finding(
                    f"the role {name} may not do what {WORK[role]} must: {in_words(missing)}",
                    MAKE_ROLES if prefix else _grant(connection, missing, name),
                    details={"role": name, "missing": [right._asdict() for right in missing]},
                )
        for name, role in made.items():
            _, excess = missing_and_excess(connection, str(prefix), role)
            if excess:
                yield Finding(
                    f"the role {name} may do more than {WORK[role]} must: {in_words(excess)}",
                    MAKE_ROLES,
                    Severity.WARNING,
                    {"role": name, "excess": [right._asdict() for right in sorted(excess)]},
                )


def connected_as(settings: ProjectorSettings) -> str:
    """Return the role that the settings lead to."""
    (row,) = ask(settings, "SELECT current_user AS role")
    return str(row["role"])


def _grant(connection: psycopg.Connection, missing: list[Right], name: str) -> str:
    grants = "; ".join(statement.as_string(connection) for statement in statements("GRANT", missing, name))
    return f"as the owner of the tables: `{grants}`"


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
