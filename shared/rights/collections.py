"""What each role may do in MongoDB, in the one database of the read models.

A shadow has a name of its own each time, so what is done to shadows must be allowed for every collection. What is only
ever done to the live ones is allowed for these alone.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.mongo import META
from shared.read_models import READ_MODELS
from shared.rights.role import Role

ANY: Final = ""
LIVE: Final = tuple(read_model.name for read_model in READ_MODELS)

Action = tuple[str, str]

WRITE: Final = ("find", "insert", "update")
# At the start of `projector run`, and for each shadow. A swap that somebody left is finished by whoever finds it.
MAKE: Final = ("createCollection", "createIndex", "collMod", "listCollections", "renameCollectionSameDB")
# For `projector doctor`: how full the disk is, and whether an index is missing.
LOOK: Final = ("dbStats", "listIndexes")

ACTIONS: Final[Mapping[Role, Mapping[str, tuple[str, ...]]]] = {
    Role.API: dict.fromkeys((*LIVE, META), ("find",)),
    Role.PROJECTOR: {
        ANY: (*WRITE, *MAKE, *LOOK),
        # Tombstones are purged; and a rename over a live collection drops that one.
        **dict.fromkeys(LIVE, ("remove", "dropCollection")),
    },
    Role.MAINTENANCE: {ANY: (*WRITE, "remove", *MAKE, "dropCollection")},
}


def privileges_of(role: Role, database: str) -> list[dict[str, Any]]:
    """Return the privileges as MongoDB's commands take them."""
    return [
        {"resource": {"db": database, "collection": collection}, "actions": sorted(actions)}
        for collection, actions in ACTIONS[role].items()
    ]


def missing_actions(role: Role, database: str, privileges: list[Mapping[str, Any]]) -> list[str]:
    """Return what a role must be allowed and these privileges, as `connectionStatus` shows them, do not allow."""
    granted = {
        (privilege["resource"].get("collection", ANY), action)
        for privilege in privileges
        if privilege["resource"].get("anyResource") or privilege["resource"].get("db") in {"", database}
        for action in privilege["actions"]
    }
    return sorted(
        f"{action} {collection}".rstrip()
        for collection, actions in ACTIONS[role].items()
        for action in actions
        if not {(collection, action), (ANY, action)} & granted
    )
