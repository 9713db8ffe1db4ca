"""What goes wrong on purpose: documents that MongoDB refuses for a while, and documents changed past the service."""

from collections.abc import Mapping
from typing import Any, Final

from pymongo.database import Database

from shared.mongo import NAMESPACE_NOT_FOUND, Document
from shared.read_models import ITEMS_READ, READ_MODELS, USERS_READ, ReadModel

REFUSALS: Final[Mapping[str, tuple[ReadModel, Document]]] = {
    "users named Ada": (USERS_READ, {"name": {"$ne": "Ada"}}),
    "items of quality 0": (ITEMS_READ, {"quality": {"$ne": 0}}),
    "items of an Ada": (ITEMS_READ, {"owner.name": {"$ne": "Ada"}}),
}

LOST: Final = "is lost"
CHANGES: Final[Mapping[str, tuple[Document, Document]]] = {
    "has another name": ({}, {"$set": {"name": "spoiled"}}),
    "is older": ({"version": {"$gt": 1}}, {"$inc": {"version": -1}}),
    "is ahead": ({}, {"$inc": {"version": 3}}),
}
WAYS_TO_SPOIL: Final = (LOST, *CHANGES)


class Harm:
    """Does harm to the read models. `refusals` are in force until somebody accepts everything again."""

    def __init__(self, read_models: Database[Document]) -> None:
        self._read_models = read_models
        self.refusals: set[str] = set()

    def refuse(self, what: str) -> None:
        """Let MongoDB refuse some documents. A relay that connects sets the validators, and ends it."""
        self.refusals.add(what)
        for read_model in READ_MODELS:
            conditions = [REFUSALS[each][1] for each in sorted(self.refusals) if REFUSALS[each][0] is read_model]
            self._validate(read_model, {"$and": conditions} if conditions else {})

    def accept(self) -> None:
        """Let MongoDB take everything again."""
        if self.refusals:
            self.refusals.clear()
            for read_model in READ_MODELS:
                self._validate(read_model, {})

    def spoil(self, collection: str, aggregate_id: int, how: str) -> None:
        """Change a document, if it is there."""
        query = {"_id": aggregate_id, "deleted_at": None}
        if how == LOST:
            self._read_models[collection].delete_one(query)
        else:
            condition, change = CHANGES[how]
            self._read_models[collection].update_one(query | condition, change, bypass_document_validation=True)

    def _validate(self, read_model: ReadModel, beside: Mapping[str, Any]) -> None:
        # Somebody who empties the read models may just have dropped it.
        self._read_models.command(
            "collMod",
            read_model.name,
            validator={**read_model.validator, **beside},
            allowable_errors=[NAMESPACE_NOT_FOUND],
        )
