"""The write model read page by page in id order, never in one long snapshot, for replay, verify and repair.

A page is one statement, so a row, its owner and its tags are seen as they were at one moment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from shared.events.event import Event
from shared.events.item import ItemPayload, OwnerPayload
from shared.events.user import UserPayload

# Which rows a statement reads: those after an id, or some by their ids.
PAGE: Final = "WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"
CHOSEN: Final = "WHERE id = ANY(%(ids)s) ORDER BY id"

USERS: Final = "SELECT id, version, name, email, created_at, updated_at FROM users {which}"

ITEMS: Final = """
    WITH page AS (
        SELECT id, version, name, description, sell_in, quality, owner_id, created_at, updated_at
        FROM items {which}
    )
    SELECT page.*, users.name AS owner_name, users.email AS owner_email, users.version AS owner_version,
           ARRAY(
               SELECT tags.name FROM item_tags JOIN tags ON tags.id = item_tags.tag_id
               WHERE item_tags.item_id = page.id ORDER BY item_tags.position
           ) AS tags
    FROM page JOIN users ON users.id = page.owner_id
    ORDER BY page.id
"""


# Ids and versions alone, of the row and of what its document embeds.
USER_VERSIONS: Final = "SELECT id, version FROM users {which}"

ITEM_VERSIONS: Final = """
    WITH page AS (SELECT id, version, owner_id FROM items {which})
    SELECT page.id, page.version, page.owner_id, users.version AS owner_version
    FROM page JOIN users ON users.id = page.owner_id
"""


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the rows of one aggregate type are, and how a row becomes the event that its last command sent.

    `statement` and `versions` leave open which rows they read. `shown` is the part of the document that a row of
    `versions` says.
    """

    table: str
    statement: str
    versions: str
    payload: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    shown: Callable[[Mapping[str, Any]], Mapping[str, Any]]


def _user_payload(row: Mapping[str, Any]) -> UserPayload:
    return UserPayload(
        schema_version=1,
        id=row["id"],
        name=row["name"],
        email=row["email"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _item_payload(row: Mapping[str, Any]) -> ItemPayload:
    return ItemPayload(
        schema_version=1,
        id=row["id"],
        name=row["name"],
        description=row["description"],
        sell_in=row["sell_in"],
        quality=row["quality"],
        owner=OwnerPayload(
            id=row["owner_id"], name=row["owner_name"], email=row["owner_email"], version=row["owner_version"]
        ),
        tags=row["tags"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _user_versions(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"_id": row["id"], "version": row["version"]}


def _item_versions(row: Mapping[str, Any]) -> Mapping[str, Any]:
    owner = {"id": row["owner_id"], "version": row["owner_version"]}
    return {"_id": row["id"], "version": row["version"], "owner": owner}


USER_ROWS: Final = Rows("users", USERS, USER_VERSIONS, _user_payload, _user_versions)
ITEM_ROWS: Final = Rows("items", ITEMS, ITEM_VERSIONS, _item_payload, _item_versions)


def count(connection: psycopg.Connection, rows: Rows) -> int:
    """Return how many rows there are."""
    row = connection.execute(f"SELECT count(*) FROM {rows.table}").fetchone()
    return int(row[0]) if row else 0


def events_page(
    connection: psycopg.Connection, aggregate_type: str, rows: Rows, *, after: int, limit: int
) -> Sequence[Event]:
    """Return the state of the next aggregates after the id `after`, as the events their last commands sent."""
    return _events(connection, aggregate_type, rows, PAGE, {"after": after, "limit": limit})


def events_of(connection: psycopg.Connection, aggregate_type: str, rows: Rows, ids: Sequence[int]) -> Sequence[Event]:
    """Return the state of those of the aggregates that have a row, in id order."""
    return _events(connection, aggregate_type, rows, CHOSEN, {"ids": list(ids)})


def _events(
    connection: psycopg.Connection, aggregate_type: str, rows: Rows, which: str, values: Mapping[str, Any]
) -> Sequence[Event]:
    cursor = connection.cursor(row_factory=dict_row)
    return [
        Event(aggregate_type, row["id"], row["version"], f"{aggregate_type}.updated", rows.payload(row))
        for row in cursor.execute(rows.statement.format(which=which), values)
    ]


def versions_page(
    connection: psycopg.Connection, rows: Rows, *, after: int, limit: int
) -> dict[int, Mapping[str, Any]]:
    """Return the versions that the documents of the next rows after the id `after` should show, by id."""
    return _versions(connection, rows, PAGE, {"after": after, "limit": limit})


def versions_of(connection: psycopg.Connection, rows: Rows, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Return the versions that the documents of those of the aggregates that have a row should show, by id."""
    return _versions(connection, rows, CHOSEN, {"ids": list(ids)})


def id_range(connection: psycopg.Connection, rows: Rows) -> tuple[int, int] | None:
    """Return the first and the last id, None when there are no rows."""
    row = connection.execute(f"SELECT min(id), max(id) FROM {rows.table}").fetchone()
    return (row[0], row[1]) if row and row[0] is not None else None


def _versions(
    connection: psycopg.Connection, rows: Rows, which: str, values: Mapping[str, Any]
) -> dict[int, Mapping[str, Any]]:
    cursor = connection.cursor(row_factory=dict_row)
    return {row["id"]: rows.shown(row) for row in cursor.execute(rows.versions.format(which=which), values)}
