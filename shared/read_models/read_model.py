"""What a read model is: a MongoDB collection, its indexes and its validator, as plain data.

`_id` is the only unique index: the version gate relies on a duplicate key meaning one thing. A tombstone is
`{_id, version, deleted_at}` in the same collection and no query returns one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypedDict

SHAPE_WORD: Final = "shape"

# What every query adds: a tombstone has `deleted_at`, a document never has.
ALIVE: Final[Mapping[str, Any]] = {"deleted_at": None}


class Tombstone(TypedDict):
    """What a delete leaves: the id and the version, no data."""

    _id: int
    version: int
    deleted_at: datetime


@dataclass(frozen=True, slots=True)
class Index:
    """A secondary index: `keys` are (field, 1 | -1 | "text")."""

    name: str
    keys: tuple[tuple[str, int | str], ...]
    options: Mapping[str, Any] = field(default_factory=dict)


# Every read model has it: the oldest tombstones are found without a look at documents, which are not in it.
TOMBSTONES: Final = Index(
    "tombstones", (("deleted_at", 1),), {"partialFilterExpression": {"deleted_at": {"$exists": True}}}
)


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A collection of documents made from one aggregate type, whose rows are in `table`.

    `shape` is raised by one with every change of what documents hold: see "A document's shape changed" in runbook.md.
    """

    name: str
    aggregate_type: str
    table: str
    indexes: tuple[Index, ...]
    document_schema: Mapping[str, Any]
    shape: int = 1

    @property
    def validator(self) -> dict[str, Any]:
        """The JSON schema of what the collection may hold: documents or tombstones. It says of which shape it is."""
        return {
            "$jsonSchema": {
                "description": f"{SHAPE_WORD} {self.shape}",
                "oneOf": [self.document_schema, TOMBSTONE_SCHEMA],
            }
        }


def shape_of(validator: Mapping[str, Any]) -> int:
    """Return the shape of a collection with this validator, 0 when it does not say."""
    word, _, number = str(validator.get("$jsonSchema", {}).get("description", "")).partition(" ")
    return int(number) if word == SHAPE_WORD and number.isdecimal() else 0


TOMBSTONE_SCHEMA: Final[Mapping[str, Any]] = {
    "bsonType": "object",
    "required": ["_id", "version", "deleted_at"],
    "additionalProperties": False,
    "properties": {
        "_id": {"bsonType": ["int", "long"]},
        "version": {"bsonType": ["int", "long"], "minimum": 1},
        "deleted_at": {"bsonType": "date"},
    },
}
