"""What a line of a catalogue holds: what the API takes, but an item names its owner by address."""

from functools import lru_cache
from typing import Annotated

from pydantic import PlainValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from api.fields import Id
from api.items.schemas import ItemCreate
from api.users.schemas import Email, UserCreate

_EMAIL: TypeAdapter[str] = TypeAdapter(Email)


@lru_cache(maxsize=65_536)
def _normalised(email: str) -> str:
    return _EMAIL.validate_python(email)


def _address(value: object) -> str:
    # An owner has many items, and checking an address costs more than all other fields of the line together.
    try:
        return _normalised(value) if isinstance(value, str) else _EMAIL.validate_python(value)
    except ValidationError as error:
        raise PydanticCustomError("address", "{reason}", {"reason": error.errors()[0]["msg"]}) from error


class UserLine(UserCreate):
    """`{"kind": "user", "email", "name"}`."""


class ItemLine(ItemCreate):
    """`{"kind": "item", "owner_email", "name", "sell_in", "quality", "tags", "description"?}`."""

    owner_email: Annotated[str, PlainValidator(_address)]
    # The id is looked up when the line is imported.
    owner_id: Id = 0
