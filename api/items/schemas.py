"""What a client sends and gets about items."""

import unicodedata
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, TypeAdapter

from api.expected import Versions
from api.fields import NOT_BLANK, Id, Int32, KnownId, Name, Time
from shared.events.event import Event

EXAMPLE: dict[str, JsonValue] = {
    "name": "Aged Brie",
    "description": "Gets better with age",
    "sell_in": 2,
    "quality": 0,
    "owner_id": 1,
    "tags": ["cheese", "soft"],
}


def tag_as_stored(tag: str) -> str:
    """Return `tag` as the write model spells it: trimmed, NFC, case kept."""
    return unicodedata.normalize("NFC", tag.strip())


def _clean_tag(tag: str) -> str:
    clean = tag_as_stored(tag)
    if not clean:
        raise ValueError("must not be blank")
    return clean


def _once_each(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


Tag = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=100),
    AfterValidator(_clean_tag),
    Field(json_schema_extra={"pattern": NOT_BLANK}),
]
Tags = Annotated[list[Tag], Field(strict=True, max_length=200), AfterValidator(_once_each)]
Description = Annotated[str, StringConstraints(strict=True, max_length=20_000)]


class ItemCreate(BaseModel):
    """A new item."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    name: Name
    sell_in: Int32
    quality: Int32
    owner_id: Id
    tags: Tags = Field(description="Trimmed, NFC, each once, in this order; case is kept")
    description: Description | None = None


class ItemUpdate(BaseModel):
    """Changes to an item; absent and null fields keep their value."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"quality": 3, "tags": ["cheese", "hard"]}]})

    name: Name | None = None
    sell_in: Int32 | None = None
    quality: Int32 | None = None
    owner_id: Id | None = None
    tags: Tags | None = Field(default=None, description="Given, they replace all tags")
    description: Description | None = Field(default=None, description='"" clears the description')


class OwnerOut(BaseModel):
    """The owner of an item."""

    id: int
    name: str
    email: str
    version: int = Field(exclude=True)


class ItemOut(BaseModel):
    """An item."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 1,
                    "name": "Aged Brie",
                    "description": "Gets better with age",
                    "sell_in": 2,
                    "quality": 0,
                    "owner": {"id": 1, "name": "Ada Lovelace", "email": "ada@example.org"},
                    "tags": ["cheese", "soft"],
                    "version": 1,
                    "created_at": "2026-01-02T03:04:05.678Z",
                    "updated_at": "2026-01-02T03:04:05.678Z",
                }
            ]
        }
    )

    id: KnownId
    name: str
    description: str | None
    sell_in: int
    quality: int
    owner: OwnerOut
    tags: list[str]
    version: int = Field(description="Counts the changes to this item: 1, 2, 3 ...")
    created_at: Time
    updated_at: Time

    @property
    def versions(self) -> Versions:
        """What the entity tag is made of: the item changes its looks with its owner."""
        return (self.version, self.owner.version)

    @classmethod
    def of_event(cls, event: Event) -> Self:
        """Return what a read will answer after `event`."""
        return cls(version=event.aggregate_version, **event.payload)


ITEMS: Final = TypeAdapter(list[ItemOut])


class ItemDeleted(BaseModel):
    """Says what was deleted."""

    detail: str = Field(examples=["Item with id 5 has been deleted"])
