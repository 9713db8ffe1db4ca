"""What must hold when a case is over, looked at without the product's own code but for its verify."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row
from pymongo.database import Database

from projector.projections.registry import PROJECTIONS
from projector.verify import compare
from shared.installation import ForeignReadModelsError, check_read_models
from shared.mongo import Document
from shared.postgres import READ_MODELS_LOCK
from shared.shadows import MARK

USERS: Final = 'SELECT id AS "_id", name, email, version, created_at, updated_at FROM users'

ITEMS: Final = """
    SELECT items.id AS "_id", items.name, description, sell_in, quality, items.version, items.created_at,
           items.updated_at,
           jsonb_build_object('id', users.id, 'name', users.name, 'email', users.email, 'version', users.version)
               AS owner,
           ARRAY(SELECT tags.name FROM item_tags JOIN tags ON tags.id = tag_id
                 WHERE item_id = items.id ORDER BY position) AS tags
    FROM items JOIN users ON users.id = owner_id
"""

SHOULD_SHOW: Final = {"users_read": USERS, "items_read": ITEMS}

FAILURES: Final = "SELECT aggregate_type, aggregate_id, aggregate_version, state FROM outbox_failures"

LEFT_OPEN: Final = """
    SELECT application_name, state, query FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
HELD_ALONE: Final = """
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = 0 AND objid = %s AND mode = 'ExclusiveLock' AND granted
"""
LEFT_LOCKED: Final = """
    SELECT locktype, mode, pid FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class State:
    """What the write model holds and what became of everything, by names: ids may be others after a rollback."""

    users: Counter[tuple[Any, ...]]
    items: Counter[tuple[Any, ...]]
    tombstones: Counter[str]
    failures: Counter[tuple[Any, ...]]


def state_of(postgres: psycopg.Connection, read_models: Database[Document]) -> State:
    """Return the state now."""
    users, items = (postgres.cursor(row_factory=dict_row).execute(statement).fetchall() for statement in (USERS, ITEMS))
    return State(
        Counter((user["name"], user["version"]) for user in users),
        Counter((item["name"], item["version"], item["owner"]["name"], *item["tags"]) for item in items),
        Counter({name: read_models[name].count_documents({"deleted_at": {"$ne": None}}) for name in SHOULD_SHOW}),
        Counter(postgres.execute(FAILURES).fetchall()),
    )


def documents(read_models: Database[Document]) -> dict[str, list[Document]]:
    """Return every document of every collection."""
    return {name: list(read_models[name].find().sort("_id", 1)) for name in sorted(read_models.list_collection_names())}


def sessions(postgres: psycopg.Connection) -> list[tuple[Any, ...]]:
    """Return the sessions in the database beside this one."""
    return postgres.execute(LEFT_OPEN).fetchall()


def is_held_alone(postgres: psycopg.Connection) -> bool:
    """Return whether somebody is alone with the read models."""
    return postgres.execute(HELD_ALONE, (READ_MODELS_LOCK,)).fetchone() is not None


def what_is_wrong(
    postgres: psycopg.Connection, read_models: Database[Document], expected: State, *, tombstones_vary: bool
) -> list[str]:
    """Return what should not be so, in a sentence each."""
    found = state_of(postgres, read_models)
    wrong = [
        f"{name}: {getattr(found, name)} instead of {getattr(expected, name)}"
        for name in ("users", "items", *([] if tombstones_vary else ["tombstones"]), "failures")
        if getattr(found, name) != getattr(expected, name)
    ]
    return [*wrong, *_not_converged(postgres, read_models), *_left_behind(postgres, read_models)]


def _not_converged(postgres: psycopg.Connection, read_models: Database[Document]) -> Iterator[str]:
    for name, statement in SHOULD_SHOW.items():
        rows = {row["_id"]: row for row in postgres.cursor(row_factory=dict_row).execute(statement)}
        shown = {document["_id"]: document for document in read_models[name].find({"deleted_at": None})}
        yield from (f"{name} {i} is lost" for i in rows.keys() - shown.keys())
        yield from (f"{name} {i} is back from the dead" for i in shown.keys() - rows.keys())
        for i in rows.keys() & shown.keys():
            if rows[i] != shown[i]:
                yield f"{name} shows {shown[i]} instead of {rows[i]}"
    for projection in PROJECTIONS.values():
        collection = read_models[projection.read_model.name]
        yield from (f"verify finds {drift}" for drift in compare(postgres, collection, projection, deep=True))
    try:
        check_read_models(postgres, read_models)
    except ForeignReadModelsError as error:
        yield str(error)


def _left_behind(postgres: psycopg.Connection, read_models: Database[Document]) -> Iterator[str]:
    for message in postgres.execute("SELECT id, event_type FROM outbox"):
        yield f"message {message} is not settled"
    for replay in postgres.execute("SELECT id, aggregate_type, state FROM replays WHERE ended_at IS NULL"):
        yield f"replay {replay} has not ended"
    yield from (f"{name} is left" for name in read_models.list_collection_names() if MARK in name)
    yield from (f"session {session} is left" for session in sessions(postgres))
    yield from (f"lock {lock} is left" for lock in postgres.execute(LEFT_LOCKED))
