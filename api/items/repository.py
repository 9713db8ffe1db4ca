"""All SQL on items and their tags. It is spelled: through the ORM a command took three times as long."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, cast

from psycopg import AsyncConnection
from psycopg.rows import dict_row, scalar_row

from api.errors import NotFoundError
from api.unit_of_work import refusing
from shared.events.item import OwnerPayload
from shared.rows.item import ItemColumns, ItemRow
from shared.rows.row import FIRST_VERSION

OWNER_CONSTRAINT: Final = "item_owner_exists"

# The owner is not locked, for a command on an item changes nothing of its owner: a rename that commits at the same time
# comes after it, and is not lost. A lock taken after the item's would meet a deletion of the user, which takes both the
# other way round.
OWNER: Final = "SELECT id, name, email, version FROM users WHERE id = %(id)s"

ADD_ITEM: Final = """
    WITH owner AS (SELECT id, name, email, version FROM users WHERE id = %(owner_id)s),
    item AS (
        INSERT INTO items (name, description, sell_in, quality, owner_id, version)
        SELECT %(name)s, %(description)s, %(sell_in)s, %(quality)s, owner.id, %(version)s FROM owner
        RETURNING id, created_at, updated_at
    )
    SELECT item.id, item.created_at, item.updated_at, owner.name, owner.email, owner.version FROM item, owner
"""

# The owner is read afterwards, in a statement of its own: joined to this one it would be as old as the wait for the
# lock is long, and an item that changed hands meanwhile would not be found.
LOCK_ITEM: Final = """
    SELECT id, name, description, sell_in, quality, owner_id, version, created_at, updated_at,
           clock_timestamp()::timestamptz(3) AS now
    FROM items WHERE id = %(id)s FOR UPDATE
"""

UPDATE_ITEM: Final = """
    UPDATE items SET name = %(name)s, description = %(description)s, sell_in = %(sell_in)s, quality = %(quality)s,
        owner_id = %(owner_id)s, version = %(version)s, updated_at = %(updated_at)s
    WHERE id = %(id)s
"""

# With the item go its tags.
DELETE_ITEM: Final = "DELETE FROM items WHERE id = %(id)s RETURNING clock_timestamp()::timestamptz(3)"

TAGS_OF: Final = """
    SELECT tags.name FROM item_tags JOIN tags ON tags.id = item_tags.tag_id
    WHERE item_tags.item_id = %(item_id)s ORDER BY item_tags.position
"""

# New tags are made in one order everywhere: two commands that make the same ones wait for each other, never in a
# circle. What another command has just made is not in this statement's snapshot, and is left out.
ADD_TAGS: Final = """
    WITH wanted AS (SELECT name, position FROM unnest(%(tags)s::text[]) WITH ORDINALITY AS tag (name, position)),
    made AS (
        INSERT INTO tags (name)
        SELECT name FROM wanted WHERE NOT EXISTS (SELECT FROM tags WHERE tags.name = wanted.name) ORDER BY name
        ON CONFLICT DO NOTHING RETURNING id, name
    )
    INSERT INTO item_tags (item_id, position, tag_id)
    SELECT %(item_id)s, position, tags.id FROM wanted JOIN tags USING (name)
    UNION ALL
    SELECT %(item_id)s, position, made.id FROM wanted JOIN made USING (name)
    ON CONFLICT (item_id, position) DO NOTHING
"""

REMOVE_TAGS: Final = "DELETE FROM item_tags WHERE item_id = %(item_id)s"


async def owner(connection: AsyncConnection, user_id: int) -> OwnerPayload:
    """Return the user who owns an item, or shall own it. Raises NotFoundError."""
    cursor = await connection.cursor(row_factory=dict_row).execute(OWNER, {"id": user_id})
    found = await cursor.fetchone()
    if found is None:
        raise NotFoundError("Owner", user_id)
    return cast("OwnerPayload", found)


async def add_item(connection: AsyncConnection, new: ItemColumns) -> tuple[ItemRow, OwnerPayload]:
    """Write a new item and return it with its owner. Raises NotFoundError."""
    not_found = NotFoundError("Owner", new["owner_id"])
    with refusing(OWNER_CONSTRAINT, not_found):
        found = await (await connection.execute(ADD_ITEM, {**new, "version": FIRST_VERSION})).fetchone()
    if found is None:
        raise not_found
    item_id, created_at, updated_at, name, email, version = found
    item = ItemRow(id=item_id, version=FIRST_VERSION, created_at=created_at, updated_at=updated_at, **new)
    return item, OwnerPayload(id=item.owner_id, name=name, email=email, version=version)


async def locked_item(connection: AsyncConnection, item_id: int) -> tuple[ItemRow, datetime]:
    """Return the item, locked until the transaction ends, and the database's time. Raises NotFoundError."""
    cursor = await connection.cursor(row_factory=dict_row).execute(LOCK_ITEM, {"id": item_id})
    found = await cursor.fetchone()
    if found is None:
        raise NotFoundError("Item", item_id)
    now: datetime = found.pop("now")
    return ItemRow(**found), now


async def update_item(connection: AsyncConnection, item: ItemRow) -> None:
    """Write an item that is locked. Raises NotFoundError for the owner."""
    with refusing(OWNER_CONSTRAINT, NotFoundError("Owner", item.owner_id)):
        await connection.execute(UPDATE_ITEM, item.columns())


async def delete_item(connection: AsyncConnection, item_id: int) -> datetime:
    """Delete an item that is locked, with its tags, and return when."""
    cursor = await connection.execute(DELETE_ITEM, {"id": item_id})
    (deleted_at,) = cast("tuple[datetime]", await cursor.fetchone())
    return deleted_at


async def tags_of(connection: AsyncConnection, item_id: int) -> list[str]:
    """Return the item's tags in their order."""
    cursor = await connection.cursor(row_factory=scalar_row).execute(TAGS_OF, {"item_id": item_id})
    return await cursor.fetchall()


async def add_tags(connection: AsyncConnection, item_id: int, tags: Sequence[str]) -> None:
    """Put `tags`, each different, on the item, which has none, in this order."""
    left = len(tags)
    while left:
        # The next statement sees the tags that somebody else just made.
        left -= (await connection.execute(ADD_TAGS, {"item_id": item_id, "tags": list(tags)})).rowcount


async def replace_tags(connection: AsyncConnection, item_id: int, tags: Sequence[str]) -> None:
    """Put exactly `tags` on the item, in this order."""
    await connection.execute(REMOVE_TAGS, {"item_id": item_id})
    await add_tags(connection, item_id, tags)
