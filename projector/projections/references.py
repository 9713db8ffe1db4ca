"""References converge: an item embeds its owner, and store-then-look on both sides keeps the copy right.

A user event stores the user, then updates the items that embed an older version of it. An item event stores the
item, then looks at the stored owner and corrects the item, unless the write model has no newer one, see
projector/owners.py. Of two racing projectors at least one sees the other. Both looks run whatever the gate said: a
redelivery must finish what a crash left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import pymongo
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from projector.deadline import Deadline
from projector.projections.gate import Embedding, embed_owners
from projector.projections.item import owner_of
from shared.mongo import Document
from shared.read_models import ALIVE, OwnerDocument

BEFORE_ALL: Final = 0
LAST_OF_ALL: Final = 2**63 - 1  # an id is a bigint


@dataclass(frozen=True, slots=True)
class FanOut:
    """A user whose items must embed this version of it, and the id of the last item that was reached.

    A repair reaches those that embed the same version, too: it may have another content.
    """

    owner: OwnerDocument
    cursor: int = BEFORE_ALL
    is_repair: bool = False


def correct_owners(
    users: Collection[Document],
    items: Collection[Document],
    owners: Mapping[int, OwnerDocument],
    deadline: Deadline,
    session: ClientSession,
) -> dict[int, str]:
    """Look at the stored owners of items just stored in `items` and correct those that embed an older version.

    `owners` maps item id -> the owner it was stored with. `session` is the causally consistent one that stored the
    items: the look comes after the store, on whichever server it is read from. Returns the errors of items that
    could not take the newer owner, by item id.
    """
    if not owners:
        return {}
    with pymongo.timeout(deadline.remaining()):
        stored = {
            user["_id"]: owner_of(user)
            for user in users.find(
                {"_id": {"$in": list({owner["id"] for owner in owners.values()})}, **ALIVE},
                {"name": 1, "email": 1, "version": 1},
                session=session,
            )
        }
    corrections = [
        Embedding(stored[owner["id"]], item_id, item_id)
        for item_id, owner in owners.items()
        if owner["id"] in stored and stored[owner["id"]]["version"] > owner["version"]
    ]
    refused = embed_owners(items, corrections, deadline, session)
    return {corrections[index].first: error for index, error in refused.items()}


def fan_out_step(
    collections: Sequence[Collection[Document]],
    fan_outs: Sequence[FanOut],
    limit: int,
    deadline: Deadline,
    session: ClientSession,
) -> tuple[list[FanOut], dict[int, str]]:
    """Correct the next items that embed one of these users, at most `limit` in each of the collections of items.

    They are walked side by side, in the order of the index on (owner.id, _id), one user after the other. Returns what
    is left to do, and the errors of users whom an item could not take, by user id; these are given up.
    """
    owning = _owning(collections, fan_outs, deadline, session)
    if not owning:
        return [], {}
    ends = [_end(items, owning, limit, deadline, session) for items in collections]
    # All of them stop at the lowest of their ends; where a step comes to the last item it has no end.
    end = min((end for end in ends if end), default=None)
    embeddings = [
        Embedding(
            fan_out.owner,
            fan_out.cursor + 1,
            end.item_id if end and end.owner_id == fan_out.owner["id"] else LAST_OF_ALL,
            fan_out.is_repair,
        )
        for fan_out in owning
        if end is None or fan_out.owner["id"] <= end.owner_id
    ]
    refused: dict[int, str] = {}
    for items in collections:
        errors = embed_owners(items, embeddings, deadline, session)
        refused |= {embeddings[index].owner["id"]: error for index, error in errors.items()}
    if end is None:
        return [], refused
    left = [
        replace(fan_out, cursor=end.item_id) if fan_out.owner["id"] == end.owner_id else fan_out
        for fan_out in owning
        if fan_out.owner["id"] >= end.owner_id and fan_out.owner["id"] not in refused
    ]
    return left, refused


class _Place(NamedTuple):
    """Where an item stands in the walk."""

    owner_id: int
    item_id: int


def _owning(
    collections: Sequence[Collection[Document]], fan_outs: Sequence[FanOut], deadline: Deadline, session: ClientSession
) -> list[FanOut]:
    """Return those whose user has items at all, in the order of the walk. An update in vain is dearer than to ask."""
    by_id = {fan_out.owner["id"]: fan_out for fan_out in fan_outs}
    with pymongo.timeout(deadline.remaining()):
        found = [
            items.distinct("owner.id", {"owner.id": {"$in": list(by_id)}}, session=session) for items in collections
        ]
    return [by_id[owner_id] for owner_id in sorted(set().union(*found))]


def _end(
    items: Collection[Document], fan_outs: Sequence[FanOut], limit: int, deadline: Deadline, session: ClientSession
) -> _Place | None:
    """Return the place of the last of the next `limit` items, None when nothing comes after these."""
    fresh = [fan_out.owner["id"] for fan_out in fan_outs if fan_out.cursor == BEFORE_ALL]
    begun = [
        {"owner.id": fan_out.owner["id"], "_id": {"$gt": fan_out.cursor}}
        for fan_out in fan_outs
        if fan_out.cursor != BEFORE_ALL
    ]
    branches: list[Mapping[str, Any]] = [*begun, *([{"owner.id": {"$in": fresh}}] if fresh else [])]
    with pymongo.timeout(deadline.remaining()):
        # By the index alone: to have the ids of all of them sent takes several times as long.
        found = list(
            items.find({"$or": branches} if len(branches) > 1 else branches[0], {"owner.id": 1}, session=session)
            .sort([("owner.id", 1), ("_id", 1)])
            .hint("owner")
            .skip(limit - 1)
            .limit(2)
        )
    return _Place(found[0]["owner"]["id"], found[0]["_id"]) if len(found) > 1 else None
