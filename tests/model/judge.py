"""What must be true of the read models, at any time and after a drain, and what excuses a document from it."""

from typing import Final

import psycopg
from pymongo.database import Database

from projector.drift import Drift
from projector.outbox import Settlement
from shared.mongo import Document
from shared.read_models import ITEMS_READ, READ_MODELS, USERS_READ
from tests.model.oracle import Key, Oracle

# By collection and id, as the oracle has them.
Documents = dict[Key, Document]

REPAIRS: Final = """
    SELECT id, aggregate_type, aggregate_id, aggregate_version FROM outbox
    WHERE event_type LIKE '%%.repaired' AND id > %s ORDER BY id
"""


class Judge:
    """Knows the oracle, and what cannot be expected to be right: what was spoiled, and what operators gave up.

    `postgres` and `read_models` are connections that nobody on the stage uses.
    """

    def __init__(self, postgres: psycopg.Connection, read_models: Database[Document]) -> None:
        self._postgres = postgres
        self._read_models = read_models
        self.begin_story()

    def begin_story(self) -> None:
        """Know nothing."""
        self.oracle = Oracle()
        # Documents that were changed past the service, or whose messages were discarded.
        self.spoiled: set[Key] = set()
        # A dead letter that is retried while verify looks explains no more what verify has seen.
        self.retried: set[Key] = set()
        # Whether somebody has begun to empty the read models: until they are replayed or repaired nothing is expected.
        self.is_emptied = False
        self.may_have_changed = False
        self._seen: Documents = {}
        self._last_repair = 0

    def all_is_right(self) -> None:
        """Excuse nothing any more."""
        self.spoiled.clear()
        self.retried.clear()
        self.is_emptied = False
        self._seen, self.may_have_changed = self.documents(), False

    def documents(self) -> Documents:
        """Return every document and tombstone of every read model."""
        return {
            (read_model.name, document["_id"]): document
            for read_model in READ_MODELS
            for document in self._read_models[read_model.name].find()
        }

    def differing(self) -> set[Key]:
        """Return which documents are not what the oracle says."""
        expected = self.oracle.documents()
        shown = {key: document for key, document in self.documents().items() if "deleted_at" not in document}
        return {key for key in expected.keys() | shown.keys() if expected.get(key) != shown.get(key)}

    def show(self, keys: set[Key]) -> str:
        """Return both sides of some documents."""
        expected, shown = self.oracle.documents(), self.documents()
        return "\n".join(
            f"{name} {i}:\n  expected {expected.get((name, i))}\n  shown    {shown.get((name, i))}"
            for name, i in sorted(keys)
        )

    def is_excused(self, key: Key) -> bool:
        """Return whether a document may differ: it is spoiled, or its owner's is."""
        owner = self.oracle.owner_of(key[1]) if key[0] == ITEMS_READ.name else None
        return self.is_emptied or key in self.spoiled or (USERS_READ.name, owner) in self.spoiled

    def take_in_repairs(self) -> int:
        """A repair says what the rows say; it may have raised their version. Return how many came."""
        repairs = self._postgres.execute(REPAIRS, (self._last_repair,)).fetchall()
        for message_id, aggregate_type, aggregate_id, version in repairs:
            self._last_repair = message_id
            self.oracle.raise_version(aggregate_type, aggregate_id, version)
        return len(repairs)

    def check_that_nothing_goes_back(self) -> None:
        """What was shown is never replaced by something older, and nothing that was deleted is shown again."""
        if not self.may_have_changed:
            return
        self.may_have_changed = False
        shown = self.documents()
        for key, before in self._seen.items():
            wrong = _went_back(before, shown.get(key))
            assert not wrong or self.is_emptied or key in self.spoiled, (
                f"{key[0]} {key[1]} {wrong}:\n  before {before}\n  now    {shown.get(key)}"
            )
        self._seen = shown

    def check_settled(self, settlement: Settlement, _: float) -> None:
        """What was settled is shown, at its version or a newer one. On the thread of the lane that has settled it."""
        for message in settlement.settled:
            key = f"{message.aggregate_type}s_read", message.aggregate_id
            shown = self._read_models[key[0]].find_one({"_id": key[1]}, {"version": 1}) or {}
            assert key in self.spoiled or shown.get("version", 0) >= message.aggregate_version, (
                f"message {message.id} was settled, {key[0]} {key[1]} v{message.aggregate_version}; shown is {shown}"
            )

    def check_drift(self, drift: Drift) -> None:
        """What verify finds was spoiled or has failed, and is never on its way."""
        key = key_of(drift)
        assert drift.dead_letter or key in self.retried or self.is_excused(key), (
            f"this is in flight, not drift: {drift}"
        )


def key_of(drift: Drift) -> Key:
    """Return which document differs."""
    return f"{drift.aggregate_type}s_read", drift.aggregate_id


def _went_back(before: Document, now: Document | None) -> str | None:
    """Return what is wrong with what is shown now, None when nothing is."""
    if now is None:
        # Tombstones are purged; what that lets through comes back, and is found then.
        return None if "deleted_at" in before else "is gone"
    if now["version"] < before["version"]:
        return "shows an older version"
    if "deleted_at" in before and "deleted_at" not in now:
        return "has come back"
    if "owner" in now and "owner" in before and now["version"] == before["version"]:
        is_same = now["owner"]["id"] == before["owner"]["id"]
        if is_same and now["owner"]["version"] < before["owner"]["version"]:
            return "embeds an older version of its owner"
    return None
