"""All SQL of an import: set-based look-ups, COPY for what is new. The caller holds the transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg.rows import TupleRow, class_row, scalar_row

from shared.postgres import WAKE_CHANNEL
from shared.rows.item import ItemRow
from shared.rows.user import UserRow

Cursor = psycopg.Cursor[TupleRow]

# An import holds this advisory lock for its session: nothing in the tables keeps two from adding an item twice.
IMPORT_LOCK: Final = 0x73656564  # "seed"

# The planner knows little of tables that are being filled; by a nested loop it would read all of an owner's items
# for each line. Time-outs are in milliseconds.
SESSION: Final[Mapping[str, str | int]] = {
    "enable_nestloop": "off",
    "statement_timeout": 120_000,
    "idle_in_transaction_session_timeout": 60_000,
}

TRY_LOCK: Final = "SELECT pg_try_advisory_lock(%(key)s)"

TABLES: Final = "SELECT FROM users, items, tags, item_tags, outbox LIMIT 0"

# Locked, so that no owner is deleted under the import; in one order, and before this transaction adds anything that
# a client's change of address could wait for.
LOCK_USERS: Final = """
    SELECT id, name, email, version, created_at, updated_at FROM users
    WHERE email = ANY(%(emails)s) ORDER BY id FOR KEY SHARE
"""

ADD_USERS: Final = """
    INSERT INTO users (name, email, version)
    SELECT name, email, 1 FROM unnest(%(names)s::text[], %(emails)s::text[]) AS wanted (name, email)
    ON CONFLICT (email) DO NOTHING
    RETURNING id, name, email, version, created_at, updated_at
"""

KNOWN_ITEMS: Final = """
    SELECT owner_id, name FROM items
    WHERE owner_id = ANY(%(owners)s)
      AND (owner_id, name) IN (SELECT * FROM unnest(%(owner_ids)s::bigint[], %(names)s::text[]))
"""

TAG_IDS: Final = "SELECT name, id FROM tags WHERE name = ANY(%(names)s)"

# In one order everywhere: two that make the same new tags wait for each other, never in a circle.
ADD_TAGS: Final = """
    INSERT INTO tags (name) SELECT name FROM unnest(%(names)s::text[]) AS wanted (name) ORDER BY name
    ON CONFLICT DO NOTHING
"""

NOW: Final = "SELECT clock_timestamp()::timestamptz(3)"

NEXT_IDS: Final = """
    SELECT nextval(sequence) FROM CAST(pg_get_serial_sequence(%(table)s, 'id') AS regclass) AS sequence,
        generate_series(1, %(count)s)
"""

COPY_ITEMS: Final = """
    COPY items (id, name, description, sell_in, quality, owner_id, version, created_at, updated_at) FROM STDIN
"""

COPY_ITEM_TAGS: Final = "COPY item_tags (item_id, position, tag_id) FROM STDIN"

NOTIFY: Final = "SELECT pg_notify(%(channel)s, %(payload)s)"


def try_lock(connection: psycopg.Connection) -> bool:
    """Take the lock of imports for this session unless another holds it; return whether it is ours."""
    return bool(_scalar(connection.cursor(), TRY_LOCK, {"key": IMPORT_LOCK}))


def check_tables(connection: psycopg.Connection) -> None:
    """Raise psycopg.errors.UndefinedTable when the write model is not there."""
    connection.execute(TABLES)


def wake_relay(connection: psycopg.Connection, message_id: int) -> None:
    """Say that what begins with `message_id` is committed. Outside any transaction: NOTIFY serialises commits."""
    connection.execute(NOTIFY, {"channel": WAKE_CHANNEL, "payload": str(message_id)})


def lock_users(cursor: Cursor, emails: Collection[str]) -> list[UserRow]:
    """Return those of the users who exist, as they are now; they stay until the transaction ends."""
    rows = cursor.connection.cursor(row_factory=class_row(UserRow))
    return rows.execute(LOCK_USERS, {"emails": list(emails)}).fetchall()


def add_users(cursor: Cursor, names: Sequence[str], emails: Sequence[str]) -> list[UserRow]:
    """Add the users and return them, but for those whose address somebody else has just taken."""
    rows = cursor.connection.cursor(row_factory=class_row(UserRow))
    return rows.execute(ADD_USERS, {"names": names, "emails": emails}).fetchall()


def known_items(cursor: Cursor, wanted: Collection[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return which (owner id, name) there are among `wanted`. An owner may have several items of one name."""
    owner_ids = [owner_id for owner_id, _ in wanted]
    names = [name for _, name in wanted]
    arguments = {"owners": list(set(owner_ids)), "owner_ids": owner_ids, "names": names}
    return [(owner_id, name) for owner_id, name in cursor.execute(KNOWN_ITEMS, arguments)]


def tag_ids(cursor: Cursor, names: Collection[str]) -> dict[str, int]:
    """Return the id of each tag, adding those that are new."""
    known: dict[str, int] = dict(cursor.execute(TAG_IDS, {"names": list(names)}).fetchall())
    missing = [name for name in names if name not in known]
    if missing:
        cursor.execute(ADD_TAGS, {"names": missing})
        known.update(cursor.execute(TAG_IDS, {"names": missing}).fetchall())
    return known


def now(cursor: Cursor) -> datetime:
    """Return the database's time with the precision of the write model."""
    time: datetime = _scalar(cursor, NOW, {})
    return time


def next_ids(cursor: Cursor, table: str, count: int) -> list[int]:
    """Draw `count` ids for new rows of `table`, ascending."""
    rows = cursor.connection.cursor(row_factory=scalar_row)
    return rows.execute(NEXT_IDS, {"table": table, "count": count}).fetchall()


def add_items(cursor: Cursor, items: Iterable[ItemRow]) -> None:
    """Add the items."""
    with cursor.copy(COPY_ITEMS) as copy:
        for item in items:
            # As text, for psycopg would make text of it twice.
            created_at, updated_at = str(item.created_at), str(item.updated_at)
            copy.write_row(
                (
                    item.id,
                    item.name,
                    item.description,
                    item.sell_in,
                    item.quality,
                    item.owner_id,
                    item.version,
                    created_at,
                    updated_at,
                )
            )


def add_item_tags(cursor: Cursor, positions: Iterable[tuple[int, int, int]]) -> None:
    """Put tags on new items: (item id, position from 1, tag id)."""
    with cursor.copy(COPY_ITEM_TAGS) as copy:
        copy.write("".join(f"{item_id}\t{position}\t{tag_id}\n" for item_id, position, tag_id in positions))


def _scalar(cursor: Cursor, statement: str, arguments: dict[str, Any]) -> Any:
    return cursor.connection.cursor(row_factory=scalar_row).execute(statement, arguments).fetchone()
