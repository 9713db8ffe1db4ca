"""What both stores hold when a storm is over, in one form, read past everything that is judged."""

from typing import Any, Final

import psycopg
from psycopg.rows import dict_row
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from tests.chaos.storm.judge_stores import Stores

USERS: Final = "SELECT id, version, name, email FROM users"
ITEMS: Final = """
    SELECT items.id, items.version, items.name, description, sell_in, quality, ARRAY(
               SELECT tags.name FROM item_tags JOIN tags ON tags.id = tag_id WHERE item_id = items.id ORDER BY position
           ) AS tags,
           jsonb_build_object('id', users.id, 'name', users.name, 'email', email, 'version', users.version) AS owner
    FROM items JOIN users ON users.id = owner_id
"""
UNSETTLED: Final = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_failures)"
SHOWN: Final = {
    "/users": ("users_read", ("version", "name", "email")),
    "/items": ("items_read", ("version", "name", "description", "sell_in", "quality", "tags", "owner")),
}


def look(dsn: str, uri: str, database: str) -> Stores:
    """Return what there is now. `uri` leads to the primary."""
    write_model: dict[str, dict[str, Any]] = {}
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        for path, statement in (("/users", USERS), ("/items", ITEMS)):
            write_model |= {f"{path}/{row.pop('id')}": row for row in connection.execute(statement)}
        (unsettled,) = (connection.execute(UNSETTLED).fetchone() or {"": 0}).values()
    read_models: dict[str, dict[str, Any]] = {}
    with MongoClient[dict[str, Any]](uri) as client:
        majority = client.get_database(database, read_concern=ReadConcern("majority"))
        for path, (collection, fields) in SHOWN.items():
            for document in majority[collection].find({"deleted_at": None}):
                read_models[f"{path}/{document['_id']}"] = {name: document.get(name) for name in fields}
    return Stores(write_model, read_models, int(unsettled))
