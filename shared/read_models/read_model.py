"""What a read model is: a MongoDB collection, its indexes and its validator, as plain data.

`_id` is the only unique index: the version gate relies on a duplicate key meaning one thing. A tombstone is
`{_id, version, deleted_at}` in the same collection and no query returns one.

Documents have a shape, a number that every change of their fields raises by one. A collection says of which shapes its
documents may be: its validator has a schema for each. So projectors of two versions work beside each other until a
replay has brought every document into the newer shape.
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
    """A secondary index: `keys` are (field, 1 | -1 | "text"). `serves_writes`: whoever writes looks by it, too."""

    name: str
    keys: tuple[tuple[str, int | str], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    serves_writes: bool = False


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
        """The JSON schema of a collection that holds documents of this shape alone, or tombstones."""
        return _validator({self.shape: self.document_schema})

    def validator_beside(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """The same, which lets through what the validator `current` of the collection lets through as well."""
        return _validator({**_schemas(current), self.shape: self.document_schema})


def shapes_of(validator: Mapping[str, Any]) -> set[int]:
    """Return the shapes of the documents that this validator of a collection lets through."""
    return set(_schemas(validator))


def _validator(schemas: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    shapes = [{**schema, "description": f"{SHAPE_WORD} {shape}"} for shape, schema in sorted(schemas.items())]
    return {"$jsonSchema": {"anyOf": [*shapes, TOMBSTONE_SCHEMA]}}


def _schemas(validator: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for schema in validator.get("$jsonSchema", {}).get("anyOf", ()):
        word, _, number = str(schema.get("description", "")).partition(" ")
        if word == SHAPE_WORD and number.isdecimal():
            found[int(number)] = schema
    return found


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
