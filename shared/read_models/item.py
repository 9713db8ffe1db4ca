"""`items_read`: one document per item, its owner embedded, so that a list needs no look-up."""

from datetime import datetime
from typing import TypedDict

from shared.read_models.read_model import TOMBSTONES, Index, ReadModel


class OwnerDocument(TypedDict):
    """The owner at one of its versions."""

    id: int
    name: str
    email: str
    version: int


class ItemDocument(TypedDict):
    """An item as queries answer it."""

    _id: int
    name: str
    description: str | None
    sell_in: int
    quality: int
    owner: OwnerDocument
    tags: list[str]
    version: int
    created_at: datetime
    updated_at: datetime


ITEMS_READ = ReadModel(
    name="items_read",
    aggregate_type="item",
    table="items",
    indexes=(
        Index("tags", (("tags", 1), ("_id", 1))),
        Index("tags_by_name", (("tags", 1), ("name", 1), ("_id", 1))),
        Index("owner", (("owner.id", 1), ("_id", 1)), serves_writes=True),
        Index("name", (("name", 1), ("_id", 1))),
        Index("updated_at", (("updated_at", 1), ("_id", 1))),
        # Words as they are written: no stemming and no stop words of one language.
        Index("words", (("name", "text"), ("description", "text")), {"default_language": "none"}),
        TOMBSTONES,
    ),
    document_schema={
        "bsonType": "object",
        "required": [
            "_id",
            "name",
            "description",
            "sell_in",
            "quality",
            "owner",
            "tags",
            "version",
            "created_at",
            "updated_at",
        ],
        "additionalProperties": False,
        "properties": {
            "_id": {"bsonType": ["int", "long"]},
            "name": {"bsonType": "string"},
            "description": {"bsonType": ["string", "null"]},
            "sell_in": {"bsonType": ["int", "long"]},
            "quality": {"bsonType": ["int", "long"]},
            "owner": {
                "bsonType": "object",
                "required": ["id", "name", "email", "version"],
                "additionalProperties": False,
                "properties": {
                    "id": {"bsonType": ["int", "long"]},
                    "name": {"bsonType": "string"},
                    "email": {"bsonType": "string"},
                    "version": {"bsonType": ["int", "long"], "minimum": 1},
                },
            },
            "tags": {"bsonType": "array", "items": {"bsonType": "string"}},
            "version": {"bsonType": ["int", "long"], "minimum": 1},
            "created_at": {"bsonType": "date"},
            "updated_at": {"bsonType": "date"},
        },
    },
)
