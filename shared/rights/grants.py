"""What the roles have been granted in one database, and what of it is missing or too much.

Which roles these are the schema tells: one whose name ends in `_migration` may make tables in it. So whoever migrates
finds them, whatever his own settings say, and so does whoever restores a dump.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Final, Literal

import psycopg
from psycopg import sql
from psycopg.rows import scalar_row

from shared.rights.role import Role
from shared.rights.tables import SEQUENCES, Right, rights_of

# Those who are granted something. The owner's rights come with the tables.
GRANTED: Final = (Role.API, Role.PROJECTOR, Role.MAINTENANCE)

PREFIX: Final = r"""
    SELECT regexp_replace(rolname, '_migration$', '')
    FROM pg_namespace CROSS JOIN aclexplode(nspacl) AS acl JOIN pg_roles ON pg_roles.oid = acl.grantee
    WHERE pg_namespace.oid = current_schema::regnamespace AND privilege_type = 'CREATE'
      AND rolname LIKE '%\_migration' AND to_regrole(regexp_replace(rolname, '_migration$', '_api')) IS NOT NULL
    ORDER BY rolname LIMIT 1
"""

# Tables and sequences of ours with their columns.
RELATIONS: Final = """
    SELECT relname, array_agg(attname::text) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = current_schema::regnamespace AND relkind IN ('r', 'p', 'S') AND attnum > 0 AND NOT attisdropped
    GROUP BY relname
"""

GRANTS: Final = """
    WITH relations AS (
        SELECT oid, relname::text, relacl FROM pg_class
        WHERE relnamespace = current_schema::regnamespace AND relkind IN ('r', 'p', 'S')
    )
    SELECT relname, privilege_type, '' FROM relations, aclexplode(relacl) WHERE grantee = to_regrole(%(role)s)
    UNION ALL
    SELECT relname, privilege_type, attname::text
    FROM relations JOIN pg_attribute ON attrelid = relations.oid, aclexplode(attacl)
    WHERE grantee = to_regrole(%(role)s) AND attnum > 0 AND NOT attisdropped
"""

# A right to a whole table is one to each of its columns.
LACKING: Final = """
    SELECT relation, privilege, "column"
    FROM unnest(%(relations)s::text[], %(privileges)s::text[], %(columns)s::text[])
             AS needed (relation, privilege, "column"),
         CAST(format('%%I.%%I', current_schema, relation) AS regclass) AS known
    WHERE NOT CASE
        WHEN "column" <> '' THEN has_column_privilege(%(role)s, known, "column", privilege)
        WHEN privilege = 'USAGE' THEN has_sequence_privilege(%(role)s, known, privilege)
        ELSE has_table_privilege(%(role)s, known, privilege)
    END
"""

# Whoever may, superusers for instance, migrates as the owner: else tables would belong to whoever made them.
BECOME_OWNER: Final = """
    SELECT set_config('role', %(owner)s, true) WHERE pg_has_role(%(owner)s::name, 'MEMBER')
"""


def prefix_of(connection: psycopg.Connection) -> str | None:
    """Return what the names of this database's roles begin with, None when it has none."""
    return connection.cursor(row_factory=scalar_row).execute(PREFIX).fetchone()


def become_owner(connection: psycopg.Connection) -> None:
    """Go on as the owner of the tables until the transaction ends, where there is such a role and we may."""
    if prefix := prefix_of(connection):
        connection.execute(BECOME_OWNER, {"owner": Role.MIGRATION.name_in(prefix)})


def relations_of(connection: psycopg.Connection) -> dict[str, set[str]]:
    """Return the tables and sequences of the schema, with their columns."""
    return {name: set(columns) for name, columns in connection.execute(RELATIONS)}


def granted_to(connection: psycopg.Connection, name: str) -> frozenset[Right]:
    """Return what the role of this name was granted in the schema; nothing when there is no such role."""
    return frozenset(Right(*row) for row in connection.execute(GRANTS, {"role": name}))


def missing_and_excess(
    connection: psycopg.Connection, prefix: str, role: Role
) -> tuple[frozenset[Right], frozenset[Right]]:
    """Return what a role should have been granted and was not, and what it was granted and should not have been."""
    wanted, granted = rights_of(role, relations_of(connection)), granted_to(connection, role.name_in(prefix))
    return wanted - granted, granted - wanted


def lacking(connection: psycopg.Connection, role: Role, name: str) -> list[Right]:
    """Return what a role must be allowed and the one of this name is not, however it came by its rights."""
    needed = sorted(rights_of(role, relations_of(connection)))
    parameters = {"role": name, **{f"{field}s": [getattr(right, field) for right in needed] for field in Right._fields}}
    return [Right(*row) for row in connection.execute(LACKING, parameters)]


def settle_grants(connection: psycopg.Connection, prefix: str) -> dict[Role, tuple[int, int]]:
    """Grant what is missing and revoke what is too much; return how many rights of each role. The caller commits.

    To be called by the owner of the tables. Where nothing differs, nothing is written.
    """
    counts = {}
    for role in GRANTED:
        name = role.name_in(prefix)
        _, excess = missing_and_excess(connection, prefix, role)
        for statement in statements("REVOKE", excess, name):
            connection.execute(statement)
        # Looked at again: what is revoked of a table is revoked of its columns as well.
        missing, _ = missing_and_excess(connection, prefix, role)
        for statement in statements("GRANT", missing, name):
            connection.execute(statement)
        counts[role] = len(missing), len(excess)
    return counts


def statements(verb: Literal["GRANT", "REVOKE"], rights: Iterable[Right], name: str) -> Iterator[sql.Composed]:
    """Yield what grants, or revokes, these rights: a statement for each table."""
    for relation, of_relation in groupby(sorted(rights), key=lambda right: right.relation):
        by_privilege: dict[str, list[str]] = {}
        for right in of_relation:
            by_privilege.setdefault(right.privilege, []).append(right.column)
        yield sql.SQL("{verb} {privileges} ON {kind} {relation} {to} {name}").format(
            verb=sql.SQL(verb),
            privileges=sql.SQL(", ").join(_privileges(by_privilege)),
            kind=sql.SQL("SEQUENCE" if relation in SEQUENCES else "TABLE"),
            relation=sql.Identifier(relation),
            to=sql.SQL("TO" if verb == "GRANT" else "FROM"),
            name=sql.Identifier(name),
        )


def _privileges(by_privilege: Mapping[str, list[str]]) -> Iterator[sql.Composable]:
    for name, columns in by_privilege.items():
        privilege = sql.SQL(name)  # a word of ours or of the catalogue
        if "" in columns:
            yield privilege
        else:
            yield sql.SQL("{} ({})").format(privilege, sql.SQL(", ").join(map(sql.Identifier, columns)))
