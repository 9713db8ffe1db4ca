"""All SQL on users. It is spelled, as that on items is."""

from datetime import datetime
from typing import Final, cast

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from api.errors import EmailTakenError, NotFoundError, UserOwnsItemsError
from api.unit_of_work import refusing
from shared.rows.row import FIRST_VERSION
from shared.rows.user import UserRow

EMAIL_CONSTRAINT: Final = "user_email_belongs_to_one_user"
OWNER_CONSTRAINT: Final = "item_owner_exists"

ADD_USER: Final = """
    INSERT INTO users (name, email, version) VALUES (%(name)s, %(email)s, %(version)s)
    RETURNING id, created_at, updated_at
"""

LOCK_USER: Final = """
    SELECT id, name, email, version, created_at, updated_at, clock_timestamp()::timestamptz(3) AS now
    FROM users WHERE id = %(id)s FOR UPDATE
"""

UPDATE_USER: Final = """
    UPDATE users SET name = %(name)s, email = %(email)s, version = %(version)s, updated_at = %(updated_at)s
    WHERE id = %(id)s
"""

DELETE_USER: Final = "DELETE FROM users WHERE id = %(id)s RETURNING clock_timestamp()::timestamptz(3)"


async def add_user(connection: AsyncConnection, name: str, email: str) -> UserRow:
    """Write a new user. Raises EmailTakenError."""
    with refusing(EMAIL_CONSTRAINT, EmailTakenError(email)):
        cursor = await connection.execute(ADD_USER, {"name": name, "email": email, "version": FIRST_VERSION})
    user_id, created_at, updated_at = cast("tuple[int, datetime, datetime]", await cursor.fetchone())
    return UserRow(
        id=user_id, name=name, email=email, version=FIRST_VERSION, created_at=created_at, updated_at=updated_at
    )


async def locked_user(connection: AsyncConnection, user_id: int) -> tuple[UserRow, datetime]:
    """Return the user, locked until the transaction ends, and the database's time. Raises NotFoundError."""
    cursor = await connection.cursor(row_factory=dict_row).execute(LOCK_USER, {"id": user_id})
    found = await cursor.fetchone()
    if found is None:
        raise NotFoundError("User", user_id)
    now: datetime = found.pop("now")
    return UserRow(**found), now


async def update_user(connection: AsyncConnection, user: UserRow) -> None:
    """Write a user who is locked. Raises EmailTakenError."""
    with refusing(EMAIL_CONSTRAINT, EmailTakenError(user.email)):
        await connection.execute(UPDATE_USER, user.columns())


async def delete_user(connection: AsyncConnection, user_id: int) -> datetime:
    """Delete a user who is locked, and return when. Raises UserOwnsItemsError."""
    with refusing(OWNER_CONSTRAINT, UserOwnsItemsError(user_id)):
        cursor = await connection.execute(DELETE_USER, {"id": user_id})
    (deleted_at,) = cast("tuple[datetime]", await cursor.fetchone())
    return deleted_at
