"""References converge: an item embeds its owner, and store-then-look on both sides keeps the copy right.

A user event stores the user, then updates the items that embed an older version of it. An item event stores the
item, then looks at the stored owner and corrects the item. Of two racing projectors at least one sees the other.
Both looks run whatever the gate said: a redelivery must finish what a crash left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final

import pymongo
from pymongo.client_session import ClientSession
from pymongo.database import Database

from projector.deadline import Deadline
from projector.projections.gate import Embedding, embed_owners
from projector.projections.item import owner_of
from shared.mongo import Document
from shared.read_models import ALIVE, ITEMS_READ, USERS_READ, OwnerDocument

BEFORE_ALL: Final = 0


@dataclass(frozen=True, slots=True)
class FanOut:
    """A user whose items must embed this version of it, and the id of the last item that was reached.

    A repair reaches those that embed the same version, too: it may have another content.
    """

    owner: OwnerDocument
    cursor: int = BEFORE_ALL
    is_repair: bool = False


def correct_owners(
    database: Database[Document], owners: Mapping[int, OwnerDocument], deadline: Deadline, session: ClientSession
) -> dict[int, str]:
    """Look at the stored owners of items just stored and correct the items that embed an older version.

    `owners` maps item id -> the owner it was stored with. `session` is the causally consistent one that stored the
    items: the look comes after the store, on whichever server it is read from. Returns the errors of items that
    could not take the newer owner, by item id.
    """
    if not owners:
        return {}
    with pymongo.timeout(deadline.remaining()):
        stored = {
            user["_id"]: owner_of(user)
            for user in database[USERS_READ.name].find(
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
    refused = embed_owners(database[ITEMS_READ.name], corrections, deadline, session)
    return {corrections[index].first: error for index, error in refused.items()}


def fan_out_step(
    database: Database[Document],
    fan_outs: Sequence[FanOut],
    limit: int,
    deadline: Deadline,
    session: ClientSession,
) -> tuple[list[FanOut], dict[int, str]]:
    """Correct the next `limit` items that embed one of these users.

    The items are walked in the order of the index on (owner.id, _id), one user after the other. Returns what is left
    to do, and the errors of users whom an item could not take, by user id; these are given up.
    """
    page = _next_items(database, fan_outs, limit, deadline, session)
    ids = {owner_id: [item["_id"] for item in items] for owner_id, items in groupby(page, key=_owner_id)}
    by_owner = {fan_out.owner["id"]: fan_out for fan_out in fan_outs}
    embeddings = [
        Embedding(by_owner[owner_id].owner, reached[0], reached[-1], by_owner[owner_id].is_repair)
        for owner_id, reached in ids.items()
    ]
    errors = embed_owners(database[ITEMS_READ.name], embeddings, deadline, session)
    refused = {embeddings[index].owner["id"]: error for index, error in errors.items()}
    if len(page) < limit:
        return [], refused
    last_owner = page[-1]["owner"]["id"]
    left = [
        replace(fan_out, cursor=page[-1]["_id"]) if owner_id == last_owner else fan_out
        for owner_id, fan_out in sorted(by_owner.items())
        if owner_id >= last_owner and owner_id not in refused
    ]
    return left, refused


def _next_items(
    database: Database[Document],
    fan_outs: Sequence[FanOut],
    limit: int,
    deadline: Deadline,
    session: ClientSession,
) -> list[Document]:
    fresh = [fan_out.owner["id"] for fan_out in fan_outs if fan_out.cursor == BEFORE_ALL]
    begun = [
        {"owner.id": fan_out.owner["id"], "_id": {"$gt": fan_out.cursor}}
        for fan_out in fan_outs
        if fan_out.cursor != BEFORE_ALL
    ]
    branches: list[Mapping[str, Any]] = [*begun, *([{"owner.id": {"$in": fresh}}] if fresh else [])]
    with pymongo.timeout(deadline.remaining()):
        return list(
            database[ITEMS_READ.name]
            .find({"$or": branches} if len(branches) > 1 else branches[0], {"owner.id": 1}, session=session)
            .sort([("owner.id", 1), ("_id", 1)])
            .hint("owner")
            .limit(limit)
        )


def _owner_id(item: Mapping[str, Any]) -> int:
    owner_id: int = item["owner"]["id"]
    return owner_id
