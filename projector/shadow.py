"""The shadow in MongoDB: made beside the live collection, put in its place by a rename, recognised by its UUID.

A rename keeps the UUID, so it tells at any time on which side of the swap we are, whoever died in between.
"""

from dataclasses import replace
from typing import Final
from uuid import UUID

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from shared.mongo import META, NAMESPACE_NOT_FOUND, Document, ensure_read_models, index_models
from shared.read_models import ReadModel
from shared.shadows import new_shadow_name

_SWAPPED: Final = "swapped"


def create_shadow(
    database: Database[Document], read_model: ReadModel, *, indexed: bool = False
) -> tuple[str, UUID | None]:
    """Make an empty collection with the read model's validator; return its name and its UUID.

    It has the indexes by which it is written, and those of queries as well if it is `indexed`, see build_indexes. Until
    it is registered, whoever cancels or cleans drops it: then there is none, or another one of this name.
    """
    shadow = replace(read_model, name=new_shadow_name(read_model.name))
    ensure_read_models(database, (replace(shadow, indexes=()),))
    # Before the indexes: to make one makes the collection again, without its validator, when it was dropped just now.
    uuid = uuid_of(database, shadow.name)
    indexes = tuple(index for index in shadow.indexes if indexed or index.serves_writes)
    ensure_read_models(database, (replace(shadow, indexes=indexes),))
    return shadow.name, uuid


def build_indexes(shadow: Collection[Document], read_model: ReadModel) -> None:
    """Give the shadow the indexes of the read model that it has not. Batches go on writing it meanwhile.

    Over documents that are there an index costs a fraction of what it costs document by document. It is done when a
    majority has them: a member that is down does not stop it.
    """
    shadow.create_indexes(index_models(read_model), commitQuorum="majority")


def uuid_of(database: Database[Document], name: str) -> UUID | None:
    """Return the UUID of a collection, None when there is none of this name."""
    for found in database.list_collections(filter={"name": name}):
        uuid: UUID = found["info"]["uuid"].as_uuid()
        return uuid
    return None


def put_in_place(database: Database[Document], shadow: str, uuid: UUID, live: str) -> bool:
    """Rename the shadow over the live collection, unless that was done before. Returns whether it is live now.

    To be called while alone with the read models. False: there is no such shadow, and the live collection is another.
    """
    # The shadow first: once it is gone, no rename of it can be on its way, and what is live stays so.
    if uuid_of(database, shadow) == uuid:
        try:
            database[shadow].rename(live, dropTarget=True)
        except OperationFailure as error:
            if error.code != NAMESPACE_NOT_FOUND:
                raise
            # A process that died had sent the same, and it was done just now.
    if uuid_of(database, live) != uuid:
        return False
    # Whoever did it, a majority must have it: a write acknowledged by one comes after everything before it.
    database[META].replace_one({"_id": _SWAPPED}, {"collection": live, "uuid": str(uuid)}, upsert=True)
    return True
