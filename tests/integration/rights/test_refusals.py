"""Each role is refused what its processes have no business with, by the servers themselves."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from shared.installation import MARK
from shared.mongo import META, Document
from shared.rights.role import Role
from tests.fixtures.roles import Guarded

EVERYBODY = (Role.API, Role.PROJECTOR, Role.MAINTENANCE)
UNAUTHORIZED = 13

# What nobody but the owner of the tables, or not even he, may do.
FOR_NOBODY = [
    "CREATE TABLE mine ()",
    "CREATE TEMPORARY TABLE mine ()",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION pg_trgm",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "ALTER TABLE users ADD mine int",
    "ALTER TABLE outbox DISABLE TRIGGER ALL",
    "CREATE INDEX ON users (name)",
    "DROP TABLE users",
    "TRUNCATE outbox",
    "TRUNCATE users CASCADE",
    "INSERT INTO alembic_version VALUES ('0001')",
    "UPDATE alembic_version SET version_num = '0001'",
    "DELETE FROM alembic_version",
    "INSERT INTO installation DEFAULT VALUES",
    "DELETE FROM installation",
    "UPDATE installation SET singleton = true",
    "SELECT setval('outbox_id_seq', 1)",
    "SELECT pg_reload_conf()",
    "SELECT pg_read_file('postgresql.conf')",
    "COPY users TO '/tmp/users'",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "ALTER SYSTEM SET fsync = off",
    "SET session_replication_role = replica",
    "SET ROLE {prefix}_migration",
    "ALTER TABLE users OWNER TO CURRENT_USER",
]

REFUSED = {
    Role.API: [
        "SELECT FROM alembic_version",
        "DELETE FROM outbox",
        "UPDATE outbox SET payload = '{{}}'",
        "UPDATE outbox SET attempts = 0",
        "INSERT INTO outbox_failures DEFAULT VALUES",
        "UPDATE outbox_failures SET state = 'discarded'",
        "DELETE FROM outbox_failures",
        "DELETE FROM idempotency_keys",
        "UPDATE projectors SET heartbeat = now()",
        "DELETE FROM projectors",
        "UPDATE installation SET has_read_models = true",
        "UPDATE handshake SET number = 0",
        "UPDATE installation SET has_read_models = false",
        "SELECT FROM replays",
        "UPDATE replays SET state = 'cancelled'",
        "SELECT FROM verifications",
        "INSERT INTO verifications DEFAULT VALUES",
        "UPDATE tags SET name = 'x'",
        "DELETE FROM tags",
        "UPDATE item_tags SET position = 1",
        "SET ROLE {prefix}_projector",
        "SET ROLE {prefix}_maintenance",
    ],
    Role.PROJECTOR: [
        "INSERT INTO users (name, email, version) VALUES ('x', 'x', 1)",
        "UPDATE users SET version = version + 1",
        "DELETE FROM users",
        "UPDATE items SET quality = 0",
        "DELETE FROM items",
        "SELECT FROM items FOR UPDATE",
        "INSERT INTO tags (name) VALUES ('x')",
        "DELETE FROM item_tags",
        "UPDATE outbox SET payload = '{{}}'",
        "INSERT INTO idempotency_keys DEFAULT VALUES",
        "UPDATE idempotency_keys SET payload = '{{}}'",
        "UPDATE installation SET id = gen_random_uuid()",
        "INSERT INTO replays DEFAULT VALUES",
        "UPDATE replays SET shadow = 'x'",
        "UPDATE verifications SET missing = 0",
        "SHOW data_directory",
        "SET ROLE {prefix}_api",
        "SET ROLE {prefix}_maintenance",
    ],
    Role.MAINTENANCE: [
        "INSERT INTO users (name, email, version) VALUES ('x', 'x', 1)",
        "UPDATE users SET name = 'x'",
        "DELETE FROM users",
        "UPDATE items SET owner_id = 1",
        "DELETE FROM items",
        "INSERT INTO tags (name) VALUES ('x')",
        "DELETE FROM item_tags",
        "DELETE FROM outbox",
        "UPDATE outbox SET awaited = true",
        "DELETE FROM outbox_failures",
        "UPDATE outbox_failures SET state = 'discarded'",
        "SELECT FROM idempotency_keys",
        "DELETE FROM idempotency_keys",
        "SELECT FROM verifications",
        "SELECT FROM alembic_version",
        "UPDATE projectors SET settled = 0",
        "UPDATE replays SET shadow_uuid = gen_random_uuid()",
        "DELETE FROM replays",
        "DELETE FROM verifications",
        "SET ROLE {prefix}_api",
        "SET ROLE {prefix}_projector",
    ],
    Role.MIGRATION: [
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "CREATE SCHEMA mine",
        "ALTER SYSTEM SET fsync = off",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SET ROLE {prefix}_api",
    ],
}

Act = Callable[[Database[Document]], Any]

# What changes documents, or more than that; and what only looks where there is nothing to look for.
ACTS: dict[str, Act] = {
    "insert": lambda database: database.items_read.insert_one({"_id": 1}),
    "update": lambda database: database.users_read.update_one({"_id": 1}, {"$set": {"name": "x"}}),
    "delete": lambda database: database.items_read.delete_many({}),
    "aggregate into": lambda database: list(database.items_read.aggregate([{"$out": "users_read"}])),
    "create an index": lambda database: database.items_read.create_index("name"),
    "change a validator": lambda database: database.command("collMod", "items_read", validator={}),
    "make a collection": lambda database: database.create_collection("mine"),
    "rename": lambda database: database.items_read.rename("users_read", dropTarget=True),
    "drop a read model": lambda database: database.drop_collection("items_read"),
    "list collections' options": lambda database: list(database.list_collections()),
    "read another collection": lambda database: database.items_read_shadow.find_one(),
    "unmark": lambda database: database[META].delete_one(MARK),
    "mark": lambda database: database[META].update_one(MARK, {"$set": {"handshake": 1}}, upsert=True),
    "drop another collection": lambda database: database.drop_collection("items_read_shadow"),
    "drop the mark": lambda database: database.drop_collection(META),
    "drop an index": lambda database: database.items_read.drop_index("name"),
    "drop the database": lambda database: database.client.drop_database(database),
    "read users": lambda database: database.client.admin.command("usersInfo"),
    "make a user": lambda database: database.command("createUser", "mine", pwd="mine", roles=[]),
    "change one's role": lambda database: database.command("updateRole", "mine", privileges=[]),
    "read another database": lambda database: database.client.other.users_read.find_one(),
    "write to another database": lambda database: database.client.other.users_read.insert_one({}),
    "read the oplog": lambda database: database.client.local["oplog.rs"].find_one(),
    "see operations": lambda database: database.client.admin.command("currentOp"),
    "profile": lambda database: database.command("profile", 2),
    "shut down": lambda database: database.client.admin.command("shutdown"),
    "reconfigure": lambda database: database.client.admin.command("replSetGetConfig"),
}
# The rest is refused to the projector and to maintenance as well.
FROM_HERE = list(ACTS).index("drop an index")
REFUSED_IN_MONGODB = {
    Role.API: list(ACTS),
    Role.PROJECTOR: ["unmark", "drop another collection", "drop the mark", *list(ACTS)[FROM_HERE:]],
    Role.MAINTENANCE: list(ACTS)[FROM_HERE:],
}


@pytest.fixture(scope="module")
def connections(guarded: Guarded) -> Iterator[dict[Role, psycopg.Connection]]:
    with ExitStack() as stack:
        yield {role: stack.enter_context(psycopg.connect(guarded.postgres_url(role), autocommit=True)) for role in Role}


@pytest.fixture(scope="module")
def databases(guarded: Guarded) -> Iterator[dict[Role, Database[Document]]]:
    with ExitStack() as stack:
        yield {
            role: stack.enter_context(MongoClient[Document](guarded.mongo_url_of(role)))[guarded.mongo_database]
            for role in EVERYBODY
        }


@pytest.mark.parametrize(
    ("role", "statement"),
    [*((role, statement) for role in EVERYBODY for statement in FOR_NOBODY),
     *((role, statement) for role, refused in REFUSED.items() for statement in refused)],
)  # fmt: skip
def test_postgresql_refuses(
    connections: dict[Role, psycopg.Connection], guarded: Guarded, role: Role, statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connections[role].execute(statement.format(prefix=guarded.prefix).encode())


@pytest.mark.parametrize(("role", "act"), [(role, act) for role, acts in REFUSED_IN_MONGODB.items() for act in acts])
def test_mongodb_refuses(databases: dict[Role, Database[Document]], role: Role, act: str) -> None:
    assert code_of(ACTS[act], databases[role]) == UNAUTHORIZED


def test_these_are_real_things_to_do_for_whoever_may(guarded: Guarded) -> None:
    with MongoClient[Document](guarded.mongo_url) as client:
        database = client[f"{guarded.mongo_database}_other"]
        codes = [code_of(act, database) for name, act in ACTS.items() if name not in {"shut down", "make a user"}]
        client.drop_database(database)
        client.drop_database("other")
    assert UNAUTHORIZED not in codes
    assert codes.count(None) > len(codes) / 2


def code_of(act: Act, database: Database[Document]) -> int | None:
    """Return the server's error code, None when it did it."""
    try:
        act(database)
    except OperationFailure as error:
        return error.code
    return None
