"""Commands on users. Each is one transaction: the row and exactly one message."""

from api.expected import Expected
from api.unit_of_work import Committed, UnitOfWork
from api.users import repository
from api.users.schemas import UserCreate, UserUpdate
from shared.events.event import deleted
from shared.events.user import AGGREGATE_TYPE, user_event


async def create_user(work: UnitOfWork, new: UserCreate) -> Committed:
    """Add a user, unless an earlier request has done it. Raises EmailTakenError."""
    async with work as connection:
        if earlier := await work.earlier():
            return earlier
        user = await repository.add_user(connection, new.name, new.email)
        return await work.commit(user_event("created", user))


async def update_user(work: UnitOfWork, user_id: int, changes: UserUpdate, expected: Expected) -> Committed:
    """Change a user; the projector carries the change into the user's items.

    Raises NotFoundError, PreconditionFailedError, EmailTakenError.
    """
    async with work as connection:
        user, now = await repository.locked_user(connection, user_id)
        expected.check((user.version,))
        user = user.changed(now, **changes.model_dump(exclude_none=True))
        await repository.update_user(connection, user)
        return await work.commit(user_event("updated", user))


async def delete_user(work: UnitOfWork, user_id: int, expected: Expected) -> Committed:
    """Delete a user who owns no items. Raises NotFoundError, PreconditionFailedError, UserOwnsItemsError."""
    async with work as connection:
        user, _ = await repository.locked_user(connection, user_id)
        expected.check((user.version,))
        deleted_at = await repository.delete_user(connection, user_id)
        return await work.commit(deleted(AGGREGATE_TYPE, user_id, user.version + 1, deleted_at))
