"""All SQL on users."""

from datetime import datetime

from sqlalchemy import cast, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from api.errors import EmailTakenError, NotFoundError, UserOwnsItemsError
from api.unit_of_work import violated_constraint
from shared.write_model import User
from shared.write_model.base import NOW, Timestamp

EMAIL_CONSTRAINT = "user_email_belongs_to_one_user"
OWNER_CONSTRAINT = "item_owner_exists"


async def locked_user(session: AsyncSession, user_id: int) -> tuple[User, datetime]:
    """Return the user, locked until the transaction ends, and the database's time. Raises NotFoundError."""
    statement = select(User, cast(NOW, Timestamp)).where(User.id == user_id).with_for_update()
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise NotFoundError("User", user_id)
    user, now = row
    return user, now


async def save(session: AsyncSession, user: User) -> None:
    """Write the user; the server's id and times are on it afterwards. Raises EmailTakenError."""
    email = user.email
    session.add(user)
    try:
        await session.flush()
    except IntegrityError as error:
        if violated_constraint(error) == EMAIL_CONSTRAINT:
            raise EmailTakenError(email) from error
        raise


async def delete_user(session: AsyncSession, user_id: int) -> datetime:
    """Delete the user and return when. Raises UserOwnsItemsError."""
    statement = delete(User).where(User.id == user_id).returning(cast(NOW, Timestamp))
    try:
        deleted_at: datetime = (await session.execute(statement)).scalar_one()
    except IntegrityError as error:
        if violated_constraint(error) == OWNER_CONSTRAINT:
            raise UserOwnsItemsError(user_id) from error
        raise
    return deleted_at
