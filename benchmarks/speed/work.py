"""What the benchmarks put through: messages of items as commands write them, and the documents they become."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import psycopg
from psycopg.rows import class_row
from pymongo import ReplaceOne
from pymongo.collection import Collection

from benchmarks.speed.servers import Document, Store
from projector.batch import prepare_to_relay
from projector.outbox import CLAIM
from projector.projections.registry import project
from shared.events.registry import read_event
from shared.mongo import ensure_read_models
from shared.outbox.message import COLUMNS, OutboxMessage
from shared.postgres import WAKE_CHANNEL
from shared.read_models import ITEMS_READ

BATCH: Final = 1_000
OWNERS: Final = 500

# Items like those of the catalogue: a few words, some tags, an owner. 390 bytes of BSON.
APPEND_ITEMS: Final = """
    INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload)
    SELECT 'item', n, v, CASE v WHEN 1 THEN 'item.created' ELSE 'item.updated' END, jsonb_build_object(
        'schema_version', 1, 'id', n, 'name', 'item ' || n || ' of the catalogue',
        'description', 'library for reading and writing files number ' || n %% 977,
        'sell_in', n %% 30, 'quality', (n + v) %% 50,
        'owner', jsonb_build_object('id', o, 'name', 'Maintainer ' || o,
                                    'email', 'm' || o || '@example.org', 'version', 1),
        'tags', jsonb_build_array('devel::lang:' || n %% 20, 'role::' || n %% 7, 'made-of::' || n %% 5),
        'created_at', '2026-01-02T03:04:05.678Z', 'updated_at', '2026-01-02T03:04:05.678Z')
    FROM generate_series(%(first)s::bigint, %(last)s) AS n, LATERAL (SELECT 1 + n %% %(owners)s AS o) AS owner,
         generate_series(%(version)s::int, %(to_version)s) AS v
    ORDER BY n, v
"""

APPEND_USER: Final = """
    INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload)
    VALUES ('user', %(id)s, %(version)s, 'user.updated', jsonb_build_object(
        'schema_version', 1, 'id', %(id)s::bigint, 'name', 'Maintainer at ' || %(version)s::text,
        'email', 'm' || %(id)s::text || '@example.org',
        'created_at', '2026-01-02T03:04:05.678Z', 'updated_at', '2026-01-02T03:04:05.678Z'))
"""


def append_items(connection: psycopg.Connection, first: int, count: int, version: int = 1, to_version: int = 0) -> None:
    """Append a message of each item at `version`, or at every one up to `to_version`, those of one item together."""
    connection.execute(
        APPEND_ITEMS,
        {
            "version": version,
            "to_version": max(version, to_version),
            "first": first,
            "last": first + count - 1,
            "owners": OWNERS,
        },
    )


def append_user(connection: psycopg.Connection, user_id: int, version: int) -> None:
    """Append the message of a user who has a new name."""
    connection.execute(APPEND_USER, {"id": user_id, "version": version})


def wake(connection: psycopg.Connection) -> None:
    """Wake the projectors as the API does after a commit."""
    connection.execute("SELECT pg_notify(%s, '1')", (WAKE_CHANNEL,))


def documents(connection: psycopg.Connection, first: int, count: int, version: int = 1) -> list[Document]:
    """Return the documents that these messages become, made by the product's own projection."""
    with connection.transaction(force_rollback=True):
        before = connection.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()
        append_items(connection, first, count, version)
        cursor = connection.cursor(row_factory=class_row(OutboxMessage))
        messages = cursor.execute(f"SELECT {COLUMNS} FROM outbox WHERE id > %s ORDER BY id", before or (0,)).fetchall()
    return [dict(project(read_event(message))) for message in messages]


@contextmanager
def held_back(store: Store) -> Iterator[psycopg.Connection]:
    """Yield a connection in a transaction: what it appends is seen all at once, when the block ends."""
    with psycopg.connect(store.database_url) as connection:
        yield connection


def drained_in(store: Store, count: int) -> float:
    """Return the seconds in which the projectors settle `count` messages that were just committed."""
    before, begun = store.settled(), time.perf_counter()
    wake(store.postgres)
    store.wait_settled(before + count)
    return time.perf_counter() - begun


def empty_items(store: Store, *names: str) -> None:
    """Make these collections anew, each with the indexes and the validator of `items_read`."""
    for name in names or (ITEMS_READ.name,):
        store.mongo.drop_collection(name)
        ensure_read_models(store.mongo, (replace(ITEMS_READ, name=name),))


def in_batches(found: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield them a thousand at a time."""
    for begin in range(0, len(found), BATCH):
        yield found[begin : begin + BATCH]


def insert_many(collection: Collection[Document], found: Sequence[Document]) -> float:
    """Return the seconds in which the driver inserts these documents, by majority and with the journal."""
    begun = time.perf_counter()
    for batch in in_batches(found):
        collection.insert_many(batch, ordered=False)
    return time.perf_counter() - begun


def gated_replace(collection: Collection[Document], found: Sequence[Document]) -> float:
    """Return the seconds in which one connection replaces older versions, the plainest gate there is."""
    begun = time.perf_counter()
    for batch in in_batches(found):
        older = [ReplaceOne({"_id": d["_id"], "version": {"$lt": d["version"]}}, d) for d in batch]
        collection.bulk_write(older, ordered=False)
    return time.perf_counter() - begun


def update_owner(
    items: Collection[Document], owner_id: int, version: int, number: int, *, whole: bool = False
) -> float:
    """Return the seconds in which one update_many puts a newer owner into all of its items, which are `number`.

    `whole`: the owner is set as one value, else the fields that change.
    """
    newer = {"name": f"Maintainer at {version}", "email": f"m{owner_id}@example.org", "version": version}
    change = {"owner": {"id": owner_id, **newer}} if whole else {f"owner.{name}": newer[name] for name in newer}
    begun = time.perf_counter()
    done = items.update_many({"owner.id": owner_id, "owner.version": {"$lt": version}}, {"$set": change})
    seconds = time.perf_counter() - begun
    if done.modified_count != number:
        raise AssertionError(f"{done.modified_count} items were reached, not {number}")
    return seconds


def claim(connection: psycopg.Connection, after: int) -> list[tuple[Any, ...]]:
    """Take the next messages, a batch in a transaction, by the session of a lane; return their rows, the id first."""
    return connection.execute(CLAIM.call({"after": after, "limit": BATCH}).encode()).fetchall()


def claim_all(connection: psycopg.Connection) -> int:
    """Take all messages as a lane does, and do nothing with them; return their number."""
    prepare_to_relay(connection)
    after = claimed = 0
    while found := claim(connection, after):
        claimed, after = claimed + len(found), max(row[0] for row in found)
    return claimed


def is_idle(store: Store) -> bool:
    """Return whether nothing is on its way."""
    return store.postgres.execute("SELECT FROM outbox LIMIT 1").fetchone() is None


def wait_idle(store: Store) -> None:
    """Wait until nothing is on its way."""
    while not is_idle(store):
        time.sleep(0.05)
