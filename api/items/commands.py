"""Commands on items. Each is one transaction: the item, its tags, and exactly one message."""

from api.expected import Expected
from api.items import repository
from api.items.schemas import ItemCreate, ItemUpdate
from api.unit_of_work import Committed, UnitOfWork
from shared.events.event import deleted
from shared.events.item import AGGREGATE_TYPE, item_event
from shared.rows.item import ItemColumns


async def create_item(work: UnitOfWork, new: ItemCreate) -> Committed:
    """Add an item, unless an earlier request has done it. Raises NotFoundError when the owner is unknown."""
    async with work as connection:
        if earlier := await work.earlier():
            return earlier
        columns = ItemColumns(
            name=new.name,
            description=new.description or None,
            sell_in=new.sell_in,
            quality=new.quality,
            owner_id=new.owner_id,
        )
        item, owner = await repository.add_item(connection, columns)
        await repository.add_tags(connection, item.id, new.tags)
        return await work.commit(item_event("created", item, owner, new.tags))


async def update_item(work: UnitOfWork, item_id: int, changes: ItemUpdate, expected: Expected) -> Committed:
    """Change an item. Raises PreconditionFailedError, NotFoundError for the item and for a new owner who is unknown."""
    async with work as connection:
        item, now = await repository.locked_item(connection, item_id)
        owner = await repository.owner(connection, item.owner_id)
        expected.check((item.version, owner["version"]))
        columns = changes.model_dump(exclude_none=True, exclude={"tags"})
        if "description" in columns:
            columns["description"] = columns["description"] or None
        item = item.changed(now, **columns)
        if item.owner_id != owner["id"]:
            owner = await repository.owner(connection, item.owner_id)
        if changes.tags is not None:
            await repository.replace_tags(connection, item.id, changes.tags)
        await repository.update_item(connection, item)
        tags = changes.tags if changes.tags is not None else await repository.tags_of(connection, item.id)
        return await work.commit(item_event("updated", item, owner, tags))


async def delete_item(work: UnitOfWork, item_id: int, expected: Expected) -> Committed:
    """Delete an item. Raises NotFoundError, PreconditionFailedError."""
    async with work as connection:
        item, _ = await repository.locked_item(connection, item_id)
        owner = await repository.owner(connection, item.owner_id)
        expected.check((item.version, owner["version"]))
        deleted_at = await repository.delete_item(connection, item_id)
        return await work.commit(deleted(AGGREGATE_TYPE, item_id, item.version + 1, deleted_at))
