"""All SQL on items and their tags."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ARRAY, Text, cast, delete, func, insert, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.errors import NotFoundError
from api.unit_of_work import violated_constraint
from shared.write_model import Item, ItemTag, Tag, User
from shared.write_model.base import NOW, Timestamp

OWNER_CONSTRAINT = "item_owner_exists"


async def owner(session: AsyncSession, user_id: int) -> User:
    """Return the user who owns an item, or shall own it. Raises NotFoundError.

    Not locked, for a command on an item changes nothing of its owner: a rename that commits at the same time comes
    after it, and is not lost. A lock taken after the item's would meet a deletion of the user, which takes both the
    other way round.
    """
    user = await session.get(User, user_id)
    if user is None:
        raise NotFoundError("Owner", user_id)
    return user


async def locked_item(session: AsyncSession, item_id: int) -> tuple[Item, datetime]:
    """Return the item, locked until the transaction ends, and the database's time. Raises NotFoundError.

    The owner is read afterwards, in a statement of its own: joined to this one it would be as old as the wait for the
    lock is long, and an item that changed hands meanwhile would not be found.
    """
    statement = select(Item, cast(NOW, Timestamp)).where(Item.id == item_id).with_for_update()
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise NotFoundError("Item", item_id)
    item, now = row
    return item, now


async def save(session: AsyncSession, item: Item) -> None:
    """Write the item; the server's id and times are on it afterwards. Raises NotFoundError for the owner."""
    owner_id = item.owner_id
    session.add(item)
    try:
        await session.flush()
    except IntegrityError as error:
        if violated_constraint(error) == OWNER_CONSTRAINT:
            raise NotFoundError("Owner", owner_id) from error
        raise


async def tags_of(session: AsyncSession, item_id: int) -> list[str]:
    """Return the item's tags in their order."""
    statement = select(Tag.name).join(ItemTag, ItemTag.tag_id == Tag.id).where(ItemTag.item_id == item_id)
    return list(await session.scalars(statement.order_by(ItemTag.position)))


async def add_tags(session: AsyncSession, item_id: int, tags: Sequence[str]) -> None:
    """Put `tags` on the item, which has none, in this order."""
    if not tags:
        return
    wanted = (
        func.unnest(cast(list(tags), ARRAY(Text))).table_valued("name", with_ordinality="position").render_derived()
    )
    known = select(Tag.id).where(Tag.name == wanted.c.name).exists()
    # In one order everywhere: two commands that make the same new tags wait for each other, never in a circle.
    unknown = select(wanted.c.name).where(~known).order_by(wanted.c.name)
    await session.execute(postgresql.insert(Tag).from_select(["name"], unknown).on_conflict_do_nothing())
    # A statement of its own, whose snapshot has the tags that somebody else just made.
    positions = select(literal(item_id), wanted.c.position, Tag.id).join(Tag, Tag.name == wanted.c.name)
    await session.execute(insert(ItemTag).from_select(["item_id", "position", "tag_id"], positions))


async def replace_tags(session: AsyncSession, item_id: int, tags: Sequence[str]) -> None:
    """Put exactly `tags` on the item, in this order."""
    await session.execute(delete(ItemTag).where(ItemTag.item_id == item_id))
    await add_tags(session, item_id, tags)


async def delete_item(session: AsyncSession, item_id: int) -> datetime:
    """Delete the item with its tags and return when."""
    statement = delete(Item).where(Item.id == item_id).returning(cast(NOW, Timestamp))
    deleted_at: datetime = (await session.execute(statement)).scalar_one()
    return deleted_at
