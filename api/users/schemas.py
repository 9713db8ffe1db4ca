"""What a client sends and gets about users."""

from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, EmailStr, Field, TypeAdapter, validate_email
from pydantic_core import PydanticCustomError

from api.expected import Versions
from api.fields import KnownId, Name, Time
from shared.events.event import Event


def _only_text(value: object) -> object:
    if value is not None and not isinstance(value, str):
        raise ValueError("Input should be a valid string")
    if isinstance(value, str) and "<" in value:  # pydantic would take `Ada <ada@example.org>` and drop the name
        raise ValueError("Input should be the address alone")
    return value


def as_stored(address: str) -> str:
    """Return `address` as the write model spells it, so that a filter finds it however it was written."""
    try:
        return validate_email(address)[1]
    except PydanticCustomError:
        return address


Email = Annotated[EmailStr, BeforeValidator(_only_text), Field(max_length=254)]


class UserCreate(BaseModel):
    """A new user."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada Lovelace", "email": "ada@example.org"}]})

    name: Name
    email: Email


class UserUpdate(BaseModel):
    """Changes to a user; absent and null fields keep their value."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Ada King"}]})

    name: Name | None = None
    email: Email | None = None


class UserOut(BaseModel):
    """A user."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 1,
                    "name": "Ada Lovelace",
                    "email": "ada@example.org",
                    "version": 1,
                    "created_at": "2026-01-02T03:04:05.678Z",
                    "updated_at": "2026-01-02T03:04:05.678Z",
                }
            ]
        }
    )

    id: KnownId
    name: str
    email: str
    version: int = Field(description="Counts the changes to this user: 1, 2, 3 ...")
    created_at: Time
    updated_at: Time

    @property
    def versions(self) -> Versions:
        """What the entity tag is made of."""
        return (self.version,)

    @classmethod
    def of_event(cls, event: Event) -> Self:
        """Return what a read will answer after `event`."""
        return cls(version=event.aggregate_version, **event.payload)


USERS: Final = TypeAdapter(list[UserOut])


class UserDeleted(BaseModel):
    """Says what was deleted."""

    detail: str = Field(examples=["User with id 1 has been deleted"])
