"""`users_read`: one document per user."""

from datetime import datetime
from typing import TypedDict

from shared.read_models.read_model import TOMBSTONES, Index, ReadModel


class UserDocument(TypedDict):
    """A user as queries answer it."""

    _id: int
    name: str
    email: str
    version: int
    created_at: datetime
    updated_at: datetime


USERS_READ = ReadModel(
    name="users_read",
    aggregate_type="user",
    table="users",
    indexes=(Index("email", (("email", 1), ("_id", 1))), TOMBSTONES),
    document_schema={
        "bsonType": "object",
        "required": ["_id", "name", "email", "version", "created_at", "updated_at"],
        "additionalProperties": False,
        "properties": {
            "_id": {"bsonType": ["int", "long"]},
            "name": {"bsonType": "string"},
            "email": {"bsonType": "string"},
            "version": {"bsonType": ["int", "long"], "minimum": 1},
            "created_at": {"bsonType": "date"},
            "updated_at": {"bsonType": "date"},
        },
    },
)
