"""The product's hottest command, POST /items, in three other forms: through the ORM, in Core, and in one statement.

Each writes the same rows and the same message in one transaction. What they leave out costs the product nothing here:
a request's key, and naming an owner who is not there.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import psycopg
import sqlalchemy
from sqlalchemy import ARRAY, Text, func, insert, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from api.items.schemas import ItemCreate
from api.pool import Pool
from shared.events.event import Event
from shared.events.item import OwnerPayload, item_event
from shared.history import HISTORY
from shared.outbox.append import append
from shared.postgres import to_json
from shared.rows.item import ItemRow
from shared.write_model import Item, ItemTag, Tag, User


@dataclass(frozen=True, slots=True)
class Opened:
    """What a form takes its connections from."""

    engine: AsyncEngine
    pool: Pool


Form = Callable[[Opened, ItemCreate], Awaitable[None]]

ONE: Final = f"""
    WITH owner AS (SELECT id, name, email, version FROM users WHERE id = %(owner_id)s),
    wanted AS (SELECT name, position FROM unnest(%(tags)s::text[]) WITH ORDINALITY AS tag (name, position)),
    made AS (
        INSERT INTO tags (name)
        SELECT wanted.name FROM wanted, owner WHERE NOT EXISTS (SELECT FROM tags WHERE tags.name = wanted.name)
        ORDER BY wanted.name ON CONFLICT DO NOTHING RETURNING id, name
    ),
    known AS (
        SELECT tags.id, position FROM wanted JOIN tags USING (name)
        UNION ALL SELECT made.id, position FROM wanted JOIN made USING (name)
    ),
    item AS (
        INSERT INTO items (name, description, sell_in, quality, owner_id, version)
        SELECT %(name)s, %(description)s, %(sell_in)s, %(quality)s, owner.id, 1 FROM owner
        WHERE (SELECT count(*) FROM known) = cardinality(%(tags)s::text[])
        RETURNING id, created_at, updated_at
    ),
    tagged AS (INSERT INTO item_tags (item_id, position, tag_id) SELECT item.id, position, known.id FROM item, known)
    INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload, awaited)
    SELECT 'item', item.id, 1, 'item.created', %(payload)s::jsonb || jsonb_build_object(
        'id', item.id, 'owner', to_jsonb(owner), 'created_at', item.created_at, 'updated_at', item.updated_at), true
    FROM item, owner
    RETURNING id, payload, (SELECT {HISTORY} FROM installation)
"""


async def orm(opened: Opened, new: ItemCreate) -> None:
    """Load the owner, flush the item, and let Core do the rest on the session's connection."""
    async with AsyncSession(opened.engine, expire_on_commit=False, autoflush=False) as session:
        owner = await session.get_one(User, new.owner_id)
        item = Item(**_columns(new), version=1)
        session.add(item)
        await session.flush()
        await session.refresh(item, ["created_at", "updated_at"])
        connection = await session.connection()
        await _add_tags(connection, item.id, new.tags)
        seen = OwnerPayload(id=owner.id, name=owner.name, email=owner.email, version=owner.version)
        await _append(connection, item_event("created", cast("ItemRow", item), seen, new.tags))
        await session.commit()


async def core(opened: Opened, new: ItemCreate) -> None:
    """Say every statement with SQLAlchemy's constructs."""
    async with opened.engine.connect() as connection:
        owners = select(User.id, User.name, User.email, User.version).where(User.id == new.owner_id)
        owner = OwnerPayload(**(await connection.execute(owners)).mappings().one())
        items = insert(Item).values(**_columns(new), version=1).returning(Item.id, Item.created_at, Item.updated_at)
        item = ItemRow(**_columns(new), version=1, **(await connection.execute(items)).mappings().one())
        await _add_tags(connection, item.id, new.tags)
        await _append(connection, item_event("created", item, owner, new.tags))
        await connection.commit()


async def one_statement(opened: Opened, new: ItemCreate) -> None:
    """Send one statement, which is its own transaction. The payload's contract is half in Python, half in SQL."""
    payload = to_json({"schema_version": 1, **_columns(new), "tags": new.tags})
    arguments = {**_columns(new), "tags": list(new.tags), "payload": payload}
    async with opened.pool.connection(autocommit=True) as connection:
        assert await (await connection.execute(ONE, arguments)).fetchone()  # noqa: S101 - RETURNING has a row


def _columns(new: ItemCreate) -> dict[str, Any]:
    return new.model_dump(exclude={"tags"}) | {"description": new.description or None}


async def _append(connection: AsyncConnection, event: Event) -> None:
    driver = (await connection.get_raw_connection()).driver_connection
    await append(cast("psycopg.AsyncConnection", driver), event, awaited=True)


async def _add_tags(connection: AsyncConnection, item_id: int, tags: list[str]) -> None:
    names = func.unnest(sqlalchemy.cast(tags, ARRAY(Text)))
    wanted = names.table_valued("name", with_ordinality="position").render_derived()
    known = select(Tag.id).where(Tag.name == wanted.c.name).exists()
    unknown = select(wanted.c.name).where(~known).order_by(wanted.c.name)
    await connection.execute(postgresql.insert(Tag).from_select(["name"], unknown).on_conflict_do_nothing())
    positions = select(literal(item_id), wanted.c.position, Tag.id).join(Tag, Tag.name == wanted.c.name)
    await connection.execute(insert(ItemTag).from_select(["item_id", "position", "tag_id"], positions))


FORMS: Final[dict[str, Form]] = {"orm": orm, "core": core, "one": one_statement}
