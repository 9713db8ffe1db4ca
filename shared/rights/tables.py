"""What each role may do with each table: what its statements need, and nothing else. The owner may do everything.

A right to write is given by column where only some columns are ever written. Whoever locks rows (FOR UPDATE) must be
allowed to update at least one column, also if he never does: of what housekeeping deletes, the moment it looks at.

A version that takes a right away takes it from the version before, too, which runs beside it during a deploy.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from shared.rights.role import Role

TABLES: Final[Mapping[str, Mapping[Role, str]]] = {
    "users": {
        Role.API: "SELECT, INSERT, UPDATE, DELETE",
        Role.PROJECTOR: "SELECT",
        Role.MAINTENANCE: "SELECT, UPDATE (version)",
    },
    "items": {
        Role.API: "SELECT, INSERT, UPDATE, DELETE",
        Role.PROJECTOR: "SELECT",
        Role.MAINTENANCE: "SELECT, UPDATE (version)",
    },
    "tags": {
        Role.API: "SELECT, INSERT",
        Role.PROJECTOR: "SELECT",
        Role.MAINTENANCE: "SELECT",
    },
    "item_tags": {
        Role.API: "SELECT, INSERT, DELETE",
        Role.PROJECTOR: "SELECT",
        Role.MAINTENANCE: "SELECT",
    },
    "outbox": {
        Role.API: "SELECT, INSERT, UPDATE (awaited)",
        Role.PROJECTOR: "SELECT, INSERT, UPDATE (attempts), DELETE",
        Role.MAINTENANCE: "SELECT, INSERT",
    },
    "outbox_failures": {
        Role.API: "SELECT",
        Role.PROJECTOR: "SELECT, INSERT, UPDATE, DELETE",
        Role.MAINTENANCE: "SELECT",
    },
    "idempotency_keys": {
        Role.API: "SELECT, INSERT, UPDATE",
        Role.PROJECTOR: "SELECT, UPDATE (created_at), DELETE",
    },
    "projectors": {
        Role.API: "SELECT",
        Role.PROJECTOR: "SELECT, INSERT, UPDATE, DELETE",
        Role.MAINTENANCE: "SELECT, UPDATE (operation_time, cluster_time), DELETE",
    },
    # `handshake` is written by the version from before it got a table of its own.
    "installation": {
        Role.API: "SELECT",
        Role.PROJECTOR: "SELECT, UPDATE (has_read_models, handshake)",
        Role.MAINTENANCE: "SELECT, UPDATE (id, has_read_models, handshake)",
    },
    "handshake": {
        Role.API: "SELECT",
        Role.PROJECTOR: "SELECT, UPDATE (number)",
        Role.MAINTENANCE: "SELECT",
    },
    "replays": {
        Role.PROJECTOR: "SELECT, UPDATE (state, error, updated_at, ended_at), DELETE",
        Role.MAINTENANCE: "SELECT, INSERT, UPDATE (state, cursor, copied, error, updated_at, ended_at)",
    },
    "verifications": {
        Role.PROJECTOR: "SELECT, INSERT, UPDATE (ended_at), DELETE",
        Role.MAINTENANCE: "INSERT",
    },
    "alembic_version": {
        Role.PROJECTOR: "SELECT",
    },
}

# An import draws its ids itself. Whoever just inserts needs no right to an identity column's sequence.
SEQUENCES: Final[Mapping[str, Mapping[Role, str]]] = {
    "items_id_seq": {Role.API: "USAGE"},
    "outbox_id_seq": {Role.API: "USAGE"},
}

_PRIVILEGE: Final = re.compile(r"([A-Z]+)(?: \(([\w, ]+)\))?")


class Right(NamedTuple):
    """A privilege on a table or a sequence, or on a column of a table."""

    relation: str
    privilege: str
    column: str = ""


def rights_of(role: Role, relations: Mapping[str, Collection[str]]) -> frozenset[Right]:
    """Return what a role may do with those of the `relations`, by their columns, that there are."""
    return frozenset(
        right
        for relation, of_roles in {**TABLES, **SEQUENCES}.items()
        if relation in relations
        for right in _rights(relation, of_roles.get(role, ""))
        if not right.column or right.column in relations[relation]
    )


def _rights(relation: str, text: str) -> list[Right]:
    return [
        Right(relation, privilege, column)
        for privilege, columns in _PRIVILEGE.findall(text)
        for column in (columns.split(", ") if columns else [""])
    ]


def in_words(rights: Iterable[Right]) -> str:
    """Return the rights as an operator reads them: UPDATE (attempts) on outbox, INSERT on replays."""
    return ", ".join(
        f"{right.privilege}{f' ({right.column})' if right.column else ''} on {right.relation}"
        for right in sorted(rights)
    )
