"""The events of a user, and their payload."""

from datetime import datetime
from typing import Literal

from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

from shared.events.event import Event
from shared.rows.user import UserRow

AGGREGATE_TYPE = "user"

Happened = Literal["created", "updated"]


class UserPayload(TypedDict):
    """The full state of a user. Raise `schema_version` when the shape changes, and keep reading the old one."""

    schema_version: Literal[1]
    id: int
    name: str
    email: str
    created_at: datetime
    updated_at: datetime


def user_event(happened: Happened, user: UserRow) -> Event:
    """Return the event that carries the state of `user` after the command."""
    payload = UserPayload(
        schema_version=1,
        id=user.id,
        name=user.name,
        email=user.email,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )
    return Event(AGGREGATE_TYPE, user.id, user.version, f"{AGGREGATE_TYPE}.{happened}", payload)
