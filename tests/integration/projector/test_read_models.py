"""The read models' collections: indexes and validators, made once and kept up to date."""

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import OperationFailure, WriteError

from shared.mongo import Document, ensure_read_models
from shared.read_models import READ_MODELS, ReadModel
from tests.fixtures.relays import NOW, Watched

USER = {"_id": 1, "name": "Ada", "email": "ada@example.org", "version": 1, "created_at": NOW, "updated_at": NOW}
OWNER = {"id": 1, "name": "Ada", "email": "ada@example.org", "version": 1}
ITEM = {
    "_id": 1, "name": "a", "description": None, "sell_in": 1, "quality": 2, "owner": OWNER, "tags": ["a"],
    "version": 1, "created_at": NOW, "updated_at": NOW,
}  # fmt: skip
TOMBSTONE = {"_id": 2, "version": 2, "deleted_at": NOW}

# A schema that changes raises its read model's shape: old and new projectors tell each other's documents apart by it.
DIGESTS = {("users_read", 1): "372698fd8b5b", ("items_read", 1): "315a0bd861b9"}

every_read_model = pytest.mark.parametrize("read_model", READ_MODELS, ids=lambda read_model: read_model.name)


def state(read_models: Database[Document]) -> dict[str, Any]:
    return {
        r.name: (read_models[r.name].options(), read_models[r.name].index_information(), _uuid(read_models, r.name))
        for r in READ_MODELS
    }


def _uuid(read_models: Database[Document], name: str) -> object:
    (found,) = read_models.list_collections(filter={"name": name})
    return found["info"]["uuid"]


def test_setting_up_again_changes_nothing_and_keeps_the_documents(
    read_models: Database[Document], watch: Callable[[], Watched]
) -> None:
    ensure_read_models(read_models)
    read_models["users_read"].insert_one(dict(USER))
    before = state(read_models)

    database, commands = watch()
    ensure_read_models(database)

    assert state(read_models) == before
    assert read_models["users_read"].count_documents({}) == 1
    assert commands.named("collMod", "drop", "dropIndexes") == []


@every_read_model
def test_an_older_validator_is_replaced(read_models: Database[Document], read_model: ReadModel) -> None:
    read_models.create_collection(read_model.name, validator={"name": "only this"})
    ensure_read_models(read_models)
    assert read_models[read_model.name].options()["validator"] == read_model.validator


@every_read_model
def test_a_collection_that_came_into_being_without_a_validator_gets_one(
    read_models: Database[Document], read_model: ReadModel
) -> None:
    read_models[read_model.name].insert_one(dict(TOMBSTONE))
    ensure_read_models(read_models)
    assert read_models[read_model.name].options()["validator"] == read_model.validator
    assert read_models[read_model.name].count_documents({}) == 1


@every_read_model
def test_every_declared_index_exists_and_the_id_is_the_only_unique_one(
    read_models: Database[Document], read_model: ReadModel
) -> None:
    ensure_read_models(read_models)
    indexes = read_models[read_model.name].index_information()
    assert indexes.keys() == {"_id_", *(index.name for index in read_model.indexes)}
    assert not any(index.get("unique") for index in indexes.values())


@pytest.mark.parametrize(
    ("name", "document"),
    [("users_read", USER), ("items_read", ITEM), ("users_read", TOMBSTONE), ("items_read", TOMBSTONE)],
)
def test_documents_and_tombstones_are_accepted(read_models: Database[Document], name: str, document: Document) -> None:
    ensure_read_models(read_models)
    read_models[name].insert_one(dict(document))


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("users_read", {k: v for k, v in USER.items() if k != "email"}),
        ("users_read", USER | {"age": 3}),
        ("users_read", USER | {"_id": "one"}),
        ("users_read", USER | {"version": 0}),
        ("users_read", USER | {"deleted_at": NOW}),
        ("users_read", TOMBSTONE | {"name": "Ada"}),
        ("items_read", ITEM | {"owner": {"id": 1}}),
        ("items_read", ITEM | {"owner": OWNER | {"password": "x"}}),
        ("items_read", ITEM | {"tags": [1]}),
        ("items_read", ITEM | {"quality": "2"}),
        ("items_read", ITEM | {"created_at": "today"}),
    ],
)
def test_what_violates_the_validator_is_refused(read_models: Database[Document], name: str, document: Document) -> None:
    ensure_read_models(read_models)
    with pytest.raises(WriteError, match="Document failed validation"):
        read_models[name].insert_one(dict(document))


def test_a_failure_other_than_being_there_already_is_not_swallowed(read_models: Database[Document]) -> None:
    read_models.create_collection("users_read")
    read_models["users_read"].create_index([("name", 1)], name="email")
    with pytest.raises(OperationFailure, match="email"):
        ensure_read_models(read_models)


@every_read_model
def test_the_shape_is_raised_with_every_change_of_the_document_schema(read_model: ReadModel) -> None:
    digest = sha256(json.dumps(read_model.document_schema, sort_keys=True).encode()).hexdigest()[:12]
    assert DIGESTS.get((read_model.name, read_model.shape)) == digest, "raise its shape, and add the digest above"
