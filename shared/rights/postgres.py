"""Makes the roles of one PostgreSQL database, or brings those that are there to what they should be.

To be done by a superuser, or by the owner of the database when that one may create roles. A password is sent as its
SCRAM verifier, so that no log of the server and no view of its sessions ever has it.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, scalar_row

from shared.rights.grants import settle_grants
from shared.rights.role import Role
from shared.rights.tables import TABLES

# What ours never are.
ATTRIBUTES: Final = """
    SELECT rolcanlogin, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS is_mighty
    FROM pg_roles WHERE rolname = %(role)s
"""

IS_SUPERUSER: Final = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"

# Identity columns' sequences change hands with their tables.
TABLES_OF_OTHERS: Final = """
    SELECT relname::text FROM pg_class
    WHERE relnamespace = current_schema::regnamespace AND relkind IN ('r', 'p') AND relname = ANY(%(tables)s)
      AND relowner <> to_regrole(%(owner)s)
    ORDER BY relname
"""


class MissingPasswordError(ValueError):
    """A role is new and no password was given for it. The message says which setting gives one."""

    def __init__(self, role: Role, server: str) -> None:
        super().__init__(f"{role.upper()}_PASSWORD: needed, for the role is new in {server}")


def make_roles(connection: psycopg.Connection, prefix: str, passwords: Mapping[Role, str]) -> Iterator[str]:
    """Make the roles, the tables' owner among them, and grant what they need; yield what was done, a line each.

    A role that is there keeps its password unless one is given. The caller commits. Raises MissingPasswordError.
    """
    for role in Role:
        yield from _make_role(connection, role, role.name_in(prefix), passwords.get(role))
    owner = sql.Identifier(Role.MIGRATION.name_in(prefix))
    if not _scalar(connection, IS_SUPERUSER):
        # Else we could neither hand tables over nor grant rights to them.
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(owner))
    _open_database(connection, prefix)
    yield from _hand_over(connection, prefix)
    yield from _let_see_statistics(connection, Role.MAINTENANCE.name_in(prefix))
    for role, (granted, revoked) in settle_grants(connection, prefix).items():
        if granted or revoked:
            yield f"{role.name_in(prefix)}: {granted} rights granted, {revoked} revoked"


def _make_role(connection: psycopg.Connection, role: Role, name: str, password: str | None) -> Iterator[str]:
    identifier = sql.Identifier(name)
    found = connection.cursor(row_factory=dict_row).execute(ATTRIBUTES, {"role": name}).fetchone()
    if found is None:
        if not password:
            raise MissingPasswordError(role, "PostgreSQL")
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(identifier))
        yield f"{name}: made"
    elif found["is_mighty"]:
        taken = "NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"
        connection.execute(sql.SQL("ALTER ROLE {} {}").format(identifier, sql.SQL(taken)))
        yield f"{name}: may no longer what only administrators may"
    if found and not found["rolcanlogin"]:
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(identifier))
    if password:
        verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(identifier, sql.Literal(verifier)))
        yield f"{name}: password set"


def _open_database(connection: psycopg.Connection, prefix: str) -> None:
    """Let the roles in, the owner make tables, and nobody else."""
    names = {
        "database": sql.Identifier(connection.info.dbname),
        "schema": sql.Identifier(_scalar(connection, "SELECT current_schema")),
        "owner": sql.Identifier(Role.MIGRATION.name_in(prefix)),
        "all": sql.SQL(", ").join(sql.Identifier(role.name_in(prefix)) for role in Role),
    }
    for statement in (
        "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {database} TO {all}",
        "GRANT USAGE ON SCHEMA {schema} TO {all}",
        "GRANT CREATE ON SCHEMA {schema} TO {owner}",
    ):
        connection.execute(sql.SQL(statement).format(**names))


def _hand_over(connection: psycopg.Connection, prefix: str) -> Iterator[str]:
    """Give the tables that somebody else made to their owner."""
    owner = Role.MIGRATION.name_in(prefix)
    tables = connection.cursor(row_factory=scalar_row).execute(
        TABLES_OF_OTHERS, {"tables": list(TABLES), "owner": owner}
    )
    for table in tables.fetchall():
        connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(table), sql.Identifier(owner)))
        yield f"{owner}: owns {table} now"


def _let_see_statistics(connection: psycopg.Connection, name: str) -> Iterator[str]:
    """Let a role see what the sessions of others do, for `projector doctor`."""
    has = "SELECT pg_has_role(to_regrole(%(role)s), 'pg_monitor', 'MEMBER')"
    if _scalar(connection, has, role=name):
        return
    try:
        with connection.transaction():
            connection.execute(sql.SQL("GRANT pg_monitor TO {}").format(sql.Identifier(name)))
        yield f"{name}: member of pg_monitor"
    except psycopg.errors.InsufficientPrivilege:
        yield f'{name}: not in pg_monitor, which only a superuser may grant: GRANT pg_monitor TO "{name}"'


def _scalar(connection: psycopg.Connection, statement: str, **parameters: object) -> str:
    return connection.cursor(row_factory=scalar_row).execute(statement.encode(), parameters).fetchone() or ""
