"""The plan of every access path of both databases, as the servers themselves tell it while the product runs.

PostgreSQL's auto_explain logs the plan of each statement, MongoDB's profiler the plan and the numbers of keys and
documents each operation examined. So what is shown is what was run, not what somebody thinks is run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import httpx
import psycopg
from pymongo import MongoClient
from pymongo.database import Database

from devstack.instance import Instance

Document = dict[str, Any]

AUTO_EXPLAIN: Final = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
}

_ENTRY: Final = re.compile(r"plan:\n\tQuery Text: (?P<query>.*?)(?P<plan>\n\t[A-Z][^\n]*\(cost=.*?)(?=\n\S)", re.DOTALL)
_SPACE: Final = re.compile(r"\s+")
_PARAMETERS: Final = re.compile(r" Query Parameters: .*")
_NODE: Final = re.compile(r"(?:->  )?(?P<node>\w[^\n(]*?)  \(cost=[^)]*\) \(actual [^)]*?rows=(?P<rows>[0-9.]+)")
SHOWN_CHARACTERS: Final = 220


def show_postgres(kata: Instance) -> str:
    """Return the plans of the statements that commands, relay, replay and verify run, as Markdown."""
    log = kata.data_dir / "logs" / "postgres.log"
    with _explaining(kata):
        begun = log.stat().st_size
        _commands(kata)
        for command in (("projector", "status"), ("projector", "replay", "users"), ("projector", "verify")):
            kata.run(command)
        with log.open(encoding="utf-8") as lines:
            lines.seek(begun)
            text = lines.read()
    rows = ["| statement | plan (rows of each node) |", "|---|---|"]
    rows += [f"| `{query}` | {plan} |" for query, plan in sorted(dict(_plans(text)).items())]
    return "\n".join(rows)


def show_mongo(kata: Instance) -> str:
    """Return what each query of the API and each operation of the projector examined, as a Markdown table."""
    with MongoClient[Document](kata.mongo) as client:
        database = client["kata"]
        rows = ["| request | operation | plan | keys | documents | returned or changed |", "|---|---|---|---|---|---|"]
        with httpx.Client(base_url=kata.api, timeout=60) as api:
            for request in _requests(api):
                with _profiling(database) as profile:
                    api.get(request).raise_for_status()
                rows += [f"| `GET {request}` | {_row(entry)} |" for entry in profile]
            with _profiling(database) as profile:
                owner = api.get("/items/1").json()["owner"]["id"]
                api.put(f"/users/{owner}", json={"name": "Renamed again"}).raise_for_status()
            rows += [f"| `PUT /users/{owner}`, its projection | {_row(entry)} |" for entry in profile]
    return "\n".join(dict.fromkeys(rows))


def _requests(api: httpx.Client) -> Sequence[str]:
    item = api.get("/items/1").json()
    first, second = item["tags"][:2]
    return [
        "/users/1",
        "/users?limit=100",
        f"/users?email={item['owner']['email']}",
        "/items/1",
        "/items?limit=100",
        "/items?sort=-id",
        "/items?sort=name",
        "/items?sort=-updated_at",
        f"/items?tag={first}",
        f"/items?tag={first}&tag={second}",
        f"/items?tag={first}&sort=name",
        f"/items?tag={first}&sort=-updated_at",
        f"/items?owner_id={item['owner']['id']}",
        f"/items?owner_id={item['owner']['id']}&sort=name",
        "/items?q=python+library",
        "/tags",
    ]


def _commands(kata: Instance) -> None:
    """Run every command once, so that every statement of theirs is seen."""
    with httpx.Client(base_url=kata.api, timeout=60) as api:
        user = api.post("/users", json={"name": "plan", "email": "plan@example.org"}).json()["id"]
        body = {"name": "plan", "sell_in": 1, "quality": 1, "owner_id": user, "tags": ["plan", "role::program"]}
        item = api.post("/items", json=body).json()["id"]
        api.put(f"/items/{item}", json={"quality": 2})
        api.put(f"/items/{item}", json={"tags": ["role::program"]})
        api.put(f"/users/{user}", json={"name": "plans"})
        api.delete(f"/items/{item}")
        api.delete(f"/users/{user}")
        api.get("/ready")


@contextmanager
def _explaining(kata: Instance) -> Iterator[None]:
    """Let every new session log its plans; sessions are made anew by a restart."""
    with psycopg.connect(kata.postgres, autocommit=True) as connection:
        for name, value in AUTO_EXPLAIN.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
    kata.down()
    kata.up()
    yield
    with psycopg.connect(kata.postgres, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM RESET ALL")
    kata.down()
    kata.up()


def _plans(log: str) -> Iterator[tuple[str, str]]:
    for entry in _ENTRY.finditer(log):
        query = _PARAMETERS.sub("", _SPACE.sub(" ", entry["query"])).strip().replace("|", "\\|")
        if query.startswith(("LISTEN", "SHOW", "SELECT pg_notify")) or "pg_catalog" in query:
            continue
        shown = query if len(query) <= SHOWN_CHARACTERS else f"{query[:SHOWN_CHARACTERS]} ..."
        nodes = [f"{node['node']} ({float(node['rows']):.0f})" for node in _NODE.finditer(entry["plan"])]
        yield shown, "; ".join(nodes)


@contextmanager
def _profiling(database: Database[Document]) -> Iterator[list[Mapping[str, Any]]]:
    """Collect what the server did meanwhile with the read models."""
    entries: list[Mapping[str, Any]] = []
    database.command("profile", 0)
    database.drop_collection("system.profile")
    database.command("profile", 2)
    yield entries
    database.command("profile", 0)
    collections = [f"{database.name}.users_read", f"{database.name}.items_read"]
    entries += database["system.profile"].find({"ns": {"$in": collections}, "op": {"$ne": "getmore"}}).sort("ts", 1)


def _row(entry: Mapping[str, Any]) -> str:
    collection = entry["ns"].partition(".")[2]
    plan = entry.get("planSummary", "by _id" if entry["op"] == "insert" else "-")
    changed = entry.get("nreturned", entry.get("nModified", entry.get("ninserted", 0)))
    keys, documents = entry.get("keysExamined", 0), entry.get("docsExamined", 0)
    return f"{entry['op']} {collection} | {plan} | {keys} | {documents} | {changed}"
