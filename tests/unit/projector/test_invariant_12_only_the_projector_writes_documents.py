"""Invariant 12: only the projector writes documents, through the gate; clean_mongo.py is the one exception."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# What PyMongo's collections and databases can change documents or collections with.
WRITES = {
    "bulk_write", "insert_one", "insert_many", "update_one", "update_many", "replace_one", "delete_one", "delete_many",
    "find_one_and_update", "find_one_and_replace", "find_one_and_delete", "drop_collection", "drop_database",
    "create_collection", "create_index", "create_indexes", "drop_index", "drop_indexes",
}  # fmt: skip

# The operations of bulk_write, and aggregations that write.
OPERATIONS = {"InsertOne", "UpdateOne", "UpdateMany", "ReplaceOne", "DeleteOne", "DeleteMany", "$out", "$merge"}

# Words that mean a write only where there is a MongoDB client.
AMBIGUOUS = {"command", "rename", "drop"}

ALLOWED = {
    "projector/shadow.py": {"create_indexes", "rename", "replace_one"},
    "shared/shadows.py": {"drop_collection"},
    # The shadow it has just made.
    "projector/replay.py": {"drop_collection"},
    # A variable of this name.
    "api/point_reads.py": {"command"},
    "projector/projections/gate.py": {"bulk_write", "InsertOne", "UpdateOne", "UpdateMany", "DeleteOne"},
    # hello and connectionStatus, which ask.
    "projector/doctor/mongo.py": {"command"},
    "api/scripts/clean_mongo.py": {"drop_collection", "insert_many"},
    "shared/installation.py": {"update_one", "delete_one"},
    # The mark's numbers, in `meta`.
    "projector/handshake.py": {"update_one"},
    # Users and roles, and no documents.
    "shared/rights/mongo.py": {"command"},
    "shared/mongo.py": {"create_collection", "create_indexes", "command"},
}


def names(source: str) -> set[str]:
    """Return the names of methods and classes that are called or passed on, and the strings."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.Constant(value=str(name)):
                found.add(name)
    return found


def writes(source: str) -> set[str]:
    """Return what of it can change documents."""
    found = names(source)
    has_client = "pymongo" in source or "shared.mongo" in source
    return found & (WRITES | OPERATIONS | (AMBIGUOUS if has_client else set()))


def modules() -> list[str]:
    paths = (path for package in ("api", "projector", "shared") for path in ROOT.glob(f"{package}/**/*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in paths)


@pytest.mark.parametrize("module", modules())
def test_no_other_module_writes_documents(module: str) -> None:
    if module in {"projector/cli.py", "api/scripts/roles.py"}:  # Typer's `command`
        assert writes((ROOT / module).read_text()) <= {"command"}
    else:
        assert writes((ROOT / module).read_text()) <= ALLOWED.get(module, set())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("async def f(c):\n    await c['items_read'].update_one({}, {})", "update_one"),
        ("send = collection.update_one", "update_one"),
        ("operations = [InsertOne(d) for d in documents]", "InsertOne"),
        ("import pymongo\ncollection.drop()", "drop"),
        ("collection.aggregate([{'$merge': {'into': 'items_read'}}])", "$merge"),
    ],
)
def test_the_scan_sees_a_write(source: str, name: str) -> None:
    assert writes(source) == {name}


def test_the_exceptions_are_all_in_use() -> None:
    for module, allowed in ALLOWED.items():
        assert allowed == writes((ROOT / module).read_text()), module
