"""The version gate: the only code that writes documents, and the only place where the gate is spelled.

A document is written iff the stored version is lower; a repair, which says the current version once more, iff it is
lower or equal. So any message may be delivered any number of times, in any order, by any number of projectors, and the
read models end the same. Tombstones go through the same gate: a late upsert never brings a deleted document back.

The gate is an aggregation-pipeline update that matches `_id` alone and decides inside. With the version in the
filter instead, the loser of two racing first inserts gets a duplicate key although it may carry the NEWER version.
An embedded owner that is stored at a newer version than the one the event carries is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pymongo
from bson import encode
from bson.errors import InvalidBSON, InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, InsertOne, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from projector.deadline import Deadline
from projector.retry import TRANSIENT_CODES
from shared.mongo import CODEC, Document
from shared.read_models import OwnerDocument, Tombstone

DUPLICATE_KEY: Final = 11000
MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024

Operation = InsertOne[Any] | UpdateOne | UpdateMany


class UnstorableDocumentError(ValueError):
    """The projection made a document that BSON cannot hold."""


@dataclass(frozen=True, slots=True)
class Write:
    """One document or tombstone to put through the gate, encoded, so that one bad document fails alone.

    `is_new`: nothing of its aggregate is there yet, in all likelihood.
    """

    document: Mapping[str, Any]
    encoded: RawBSONDocument
    owner_field: str | None = None
    is_repair: bool = False
    is_new: bool = False

    @property
    def aggregate_id(self) -> int:
        """The `_id` of the document."""
        return int(self.document["_id"])

    @property
    def version(self) -> int:
        """The version the gate compares."""
        return int(self.document["version"])

    @property
    def owner(self) -> OwnerDocument | None:
        """The owner the document embeds, if it does."""
        return self.document.get(self.owner_field) if self.owner_field else None


@dataclass(frozen=True, slots=True)
class Applied:
    """What a round through the gate came to: writes applied, writes found stale, and the refused ones' errors."""

    applied: int
    stale: int
    refused: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Embedding:
    """An owner to put into the items `first` to `last` that embed an older version of it; a repair: or the same one."""

    owner: OwnerDocument
    first: int
    last: int
    is_repair: bool = False


def write_of(
    document: Mapping[str, Any], owner_field: str | None = None, *, is_repair: bool = False, is_new: bool = False
) -> Write:
    """Return `document` encoded for the gate. Raises UnstorableDocumentError when BSON cannot hold it."""
    try:
        encoded = encode(document, codec_options=CODEC)
    except (InvalidDocument, InvalidBSON, OverflowError, UnicodeEncodeError) as error:
        raise UnstorableDocumentError(f"the document cannot be stored: {error}") from error
    if len(encoded) > MAX_DOCUMENT_BYTES:
        raise UnstorableDocumentError(f"the document has {len(encoded)} bytes, MongoDB holds {MAX_DOCUMENT_BYTES}")
    return Write(document, RawBSONDocument(encoded), owner_field, is_repair, is_new)


def apply(
    collection: Collection[Document],
    writes: Sequence[Write],
    deadline: Deadline,
    session: ClientSession | None = None,
) -> Applied:
    """Put `writes`, at most one per aggregate, through the gate in one bulk.

    Returns when a majority has journaled what was applied. A refused write takes no other along. Raises PyMongo's
    error when the server could not do the work at all; then nothing is known of any of them, and all must come again.
    """
    # A plain insert is several times cheaper than an upsert; that of a document which is there all the same is dear.
    operations: list[Operation] = [
        InsertOne(write.encoded) if write.is_new else gated(write, upsert=True) for write in writes
    ]
    modified, errors = _bulk_write(collection, operations, deadline, session)
    known = [index for index, error in errors.items() if error["code"] == DUPLICATE_KEY]
    if known:
        # A duplicate key says that somebody was first, not who is newer: the gate decides, on the document now there.
        again = [gated(writes[index], upsert=False) for index in known]
        modified_again, errors_again = _bulk_write(collection, again, deadline, session)
        modified += modified_again
        errors = {index: error for index, error in errors.items() if index not in known}
        errors |= {known[index]: error for index, error in errors_again.items()}
    refused = {writes[index].aggregate_id: _describe(error) for index, error in errors.items()}
    return Applied(modified, len(writes) - modified - len(refused), refused)


def gated(write: Write, *, upsert: bool) -> UpdateOne:
    """Return the update that replaces the stored document iff its version is lower; by a repair: or equal."""
    replacement: Mapping[str, Any] = {"$literal": write.encoded}
    if write.owner_field and write.owner:
        newer_owner = _newer_owner(write.owner_field, write.owner)
        replacement = {"$mergeObjects": [replacement, {write.owner_field: newer_owner}]}
    is_newer = {_older(is_repair=write.is_repair): [{"$ifNull": ["$version", 0]}, write.version]}
    return UpdateOne(
        {"_id": write.aggregate_id},
        [{"$replaceWith": {"$cond": [is_newer, replacement, "$$ROOT"]}}],
        upsert=upsert,
    )


def embed_owners(
    items: Collection[Document],
    embeddings: Sequence[Embedding],
    deadline: Deadline,
    session: ClientSession | None = None,
) -> dict[int, str]:
    """Put newer owners into items and return the errors of those that were refused, by index.

    Never inserts and passes over tombstones.
    """
    operations: list[Operation] = [
        UpdateMany(
            {
                "_id": {"$gte": embedding.first, "$lte": embedding.last},
                "owner.id": embedding.owner["id"],
                "owner.version": {_older(is_repair=embedding.is_repair): embedding.owner["version"]},
            },
            # Without the owner's id, which stays as it is: MongoDB would look after every index, for it is in one. That
            # takes twice as long.
            {"$set": {f"owner.{field}": value for field, value in embedding.owner.items() if field != "id"}},
        )
        for embedding in embeddings
    ]
    _, errors = _bulk_write(items, operations, deadline, session)
    return {index: _describe(error) for index, error in errors.items()}


def remove_tombstones(collection: Collection[Document], tombstones: Sequence[Tombstone], deadline: Deadline) -> int:
    """Delete these tombstones and return how many there were. Whatever took the place of one stays."""
    if not tombstones:
        return 0
    with pymongo.timeout(deadline.remaining()):
        return collection.bulk_write([DeleteOne(tombstone) for tombstone in tombstones], ordered=False).deleted_count


def _older(*, is_repair: bool) -> str:
    return "$lte" if is_repair else "$lt"


def _newer_owner(field: str, owner: OwnerDocument) -> Mapping[str, Any]:
    # Versions are compared only under the same id: an item that moved takes its new owner whatever the versions.
    stored_is_newer = {
        "$and": [{"$eq": [f"${field}.id", owner["id"]]}, {"$gt": [f"${field}.version", owner["version"]]}]
    }
    return {"$cond": [stored_is_newer, f"${field}", {"$literal": owner}]}


def _bulk_write(
    collection: Collection[Document], operations: Sequence[Operation], deadline: Deadline, session: ClientSession | None
) -> tuple[int, dict[int, Mapping[str, Any]]]:
    """Return how many documents changed, and the errors of single operations by index."""
    if not operations:
        return 0, {}
    # The deadline goes to the server as maxTimeMS: a projector that lost its transaction cannot write late.
    with pymongo.timeout(deadline.remaining()):
        try:
            result = collection.bulk_write(operations, ordered=False, session=session)
        except BulkWriteError as error:
            details = error.details
            if details["writeConcernErrors"] or any(e["code"] in TRANSIENT_CODES for e in details["writeErrors"]):
                raise
            changed = details["nInserted"] + details["nUpserted"] + details["nModified"]
            return changed, {e["index"]: e for e in details["writeErrors"]}
    return result.inserted_count + result.upserted_count + result.modified_count, {}


def _describe(error: Mapping[str, Any]) -> str:
    return f"MongoDB refused the document: {error.get('errmsg', 'unknown error')} (code {error['code']})"
