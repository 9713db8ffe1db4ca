"""The whole job, each process under the role for it: nothing that the product does needs more."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
import pytest
from click.testing import Result
from pymongo import MongoClient
from pymongo.database import Database
from typer.testing import CliRunner

from api.scripts import seed
from projector import cli, tombstones
from projector.connection import open_relay_connection
from projector.doctor.checks import CHECKS
from projector.doctor.examine import examine
from projector.housekeeping import Housekeeping
from projector.sampler import Sampler
from projector.settings import ProjectorSettings
from projector.tombstones import TombstonePurge
from shared.mongo import Document, create_client, read_model_database
from shared.read_models import USERS_READ
from shared.rights.role import Role
from tests.fixtures.clients import item_body
from tests.fixtures.roles import Guarded, run
from tests.fixtures.waiting import wait_until
from tests.integration.rights.conftest import Running

JSON = ("--json",)


@pytest.fixture
def owner(guarded: Guarded) -> Iterator[psycopg.Connection]:
    """Whoever owns the tables."""
    with psycopg.connect(guarded.postgres_url(Role.MIGRATION), autocommit=True) as connection:
        yield connection


@pytest.fixture
def read_models(guarded: Guarded) -> Iterator[Database[Document]]:
    """The read models as their administrator has them."""
    with MongoClient[Document](guarded.mongo_url) as client:
        yield client[guarded.mongo_database]


@pytest.fixture
def settings(guarded: Guarded) -> ProjectorSettings:
    """A projector's settings, without those of maintenance."""
    return settings_of(guarded.environment(Role.PROJECTOR))


def settings_of(environment: dict[str, str]) -> ProjectorSettings:
    values = {name.lower(): value for name, value in environment.items()}
    # A full disk, or a machine that is slow, is no finding here.
    return ProjectorSettings(
        **{"disk_free_percent_least": 0, "batch_deadline_seconds": 120, "lag_degraded_seconds": 600, **values}
    )


def projector(guarded: Guarded, *arguments: str, maintenance: bool = False) -> Result:
    """Run the command `projector` in this process, in the environment of a projector."""
    more = guarded.maintenance if maintenance else {}
    return CliRunner().invoke(cli.app, arguments, env={**guarded.environment(Role.PROJECTOR), **more})


def answer(done: Result, code: int = 0) -> dict[str, Any]:
    assert done.exit_code == code, done.output
    return dict(json.loads(done.stdout.splitlines()[-1]))


def status(guarded: Guarded) -> dict[str, Any]:
    return dict(json.loads(projector(guarded, "status", *JSON).stdout))


def settle(guarded: Guarded) -> None:
    wait_until(lambda: status(guarded)["backlog"] == 0, "all is settled", 60)


def clean(guarded: Guarded) -> subprocess.CompletedProcess[str]:
    """As in a container of the API, which has the URLs of maintenance for it."""
    return run([sys.executable, "api/scripts/clean_mongo.py"], {**guarded.environment(Role.API), **guarded.maintenance})


def test_writes_reads_and_repetitions_through_the_api(running: Running) -> None:
    client = running.api.client
    once = {"Idempotency-Key": "once"}
    users = [client.post("/users", json={"name": "Ada", "email": "a@example.org"}, headers=once) for _ in range(2)]
    assert [user.status_code for user in users] == [201, 201], users[0].text
    user = users[0].json()
    item = client.post("/items", json=item_body(user["id"], tags=["a", "b"]))
    assert item.status_code == 201, item.text
    path = f"/items/{item.json()['id']}"
    changed = client.put(path, json={"quality": 7, "tags": ["b", "c"]}, headers={"Prefer": "respond-async"})
    token = {"Consistency-Token": changed.headers["Consistency-Token"]}
    assert client.get(path, headers=token).json()["tags"] == ["b", "c"]
    assert client.put(f"/users/{user['id']}", json={"name": "Grace"}).status_code == 200
    for query, total in (("?q=brie", 1), ("?tag=c", 1), (f"?owner_id={user['id']}&sort=-name", 1), ("?tag=a", 0)):
        assert len(client.get(f"/items{query}").json()) == total, query
    assert client.get(path).json()["owner"]["name"] == "Grace"
    assert [tag["name"] for tag in client.get("/tags").json()] == ["b", "c"]
    assert client.delete(path).status_code == 200
    assert client.delete(f"/users/{user['id']}").status_code == 200
    assert client.get("/ready").json()["status"] == "ready"
    assert "kata_lag_seconds" in client.get("/metrics").text


def test_an_import(running: Running, guarded: Guarded) -> None:
    done = CliRunner().invoke(
        seed.app, ["--users", "30", "--items", "100", "--json"], env=guarded.environment(Role.API)
    )
    assert (answer(done)["users"], answer(done)["items"]) == (30, 100)
    settle(guarded)
    assert projector(guarded, "verify", "--deep").stdout.startswith("No drift")


def test_the_doctor_finds_nothing_and_sees_more_as_maintenance(running: Running, guarded: Guarded) -> None:
    alone = examine(CHECKS, settings_of(guarded.environment(Role.PROJECTOR)))
    assert alone.findings == {}
    assert set(alone.unchecked) == {"sessions of other roles", "disk of PostgreSQL"}

    both = examine(CHECKS, settings_of({**guarded.environment(Role.PROJECTOR), **guarded.maintenance}))
    assert (both.findings, set(both.unchecked) - {"disk of PostgreSQL"}) == ({}, set())


def test_dead_letters(running: Running, guarded: Guarded, owner: psycopg.Connection) -> None:
    for n in (1, 2):
        owner.execute(
            "INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload)"
            " VALUES ('user', %s, 1, 'user.created', '{}')",
            (1000 + n,),
        )
    dead = partial(projector, guarded, "dead-letters")
    wait_until(lambda: status(guarded)["dead_letters"] == 2, "they are dead letters", 60)
    assert answer(dead("list", *JSON), 1)["groups"][0]["number"] == 2
    assert len(answer(dead("retry", "--all", *JSON))["retried"]) == 2
    wait_until(lambda: status(guarded)["dead_letters"] == 2, "they are dead letters again", 60)
    assert len(answer(dead("discard", "--all", *JSON))["discarded"]) == 2
    assert answer(dead("list", *JSON))["groups"] == []
    owner.execute("DELETE FROM outbox_failures")


def test_drift_is_found_by_a_projector_and_repaired_by_maintenance(
    running: Running, guarded: Guarded, read_models: Database[Document]
) -> None:
    read_models.items_read.delete_one({"_id": {"$gt": 1}})
    read_models.users_read.update_one({"name": {"$exists": True}}, {"$inc": {"version": 7}})
    found = projector(guarded, "verify", *JSON)
    assert answer(found, 1)["drift"] >= 2

    refused = projector(guarded, "verify", "--repair")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("PostgreSQL refuses: InsufficientPrivilege: permission denied for table users")
    assert "MAINTENANCE_DATABASE_URL names who replays, verifies and repairs" in refused.stderr

    repaired = projector(guarded, "verify", "--repair", *JSON, maintenance=True)
    assert answer(repaired)["repaired"] == answer(repaired)["drift"]
    settle(guarded)
    assert answer(projector(guarded, "verify", "--deep", *JSON, maintenance=True))["drift"] == 0


def test_replays_resumed_finished_by_a_projector_and_cancelled(
    running: Running, guarded: Guarded, owner: psycopg.Connection, read_models: Database[Document]
) -> None:
    assert answer(projector(guarded, "replay", *JSON, maintenance=True)) == {"users": 30, "items": 100}
    ids = owner.execute("SELECT string_agg(id::text, ',') FROM (SELECT id FROM items LIMIT 3) AS three").fetchone()
    assert ids
    assert answer(projector(guarded, "replay", "items", "--ids", ids[0], *JSON, maintenance=True))["messages"] == 3

    refused = projector(guarded, "replay", "users")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("PostgreSQL refuses: InsufficientPrivilege: permission denied for table replays")

    # Whoever replays is killed in the middle of the swap, and the projector, which finds that, finishes it.
    kill_replay_at(guarded, "swapping")
    wait_until(lambda: at_work(owner) == [], "the swap is finished", 60)
    last = owner.execute("SELECT state FROM replays ORDER BY id DESC LIMIT 1").fetchone()
    assert last == ("done",), "not given up: renamed"

    kill_replay_at(guarded, "copied")
    assert answer(projector(guarded, "replay", "--cancel", *JSON, maintenance=True)) == {"cancelled": "users"}
    assert [name for name in read_models.list_collection_names() if "shadow" in name] == []
    settle(guarded)
    assert answer(projector(guarded, "verify", "--deep", *JSON))["drift"] == 0


def kill_replay_at(guarded: Guarded, step: str) -> None:
    environment = {**guarded.environment(Role.PROJECTOR), **guarded.maintenance}
    died = run([sys.executable, "-m", "tests.fixtures.killed_replay", step, "replay", "users"], environment)
    assert died.returncode == -9, died.stderr


def at_work(owner: psycopg.Connection) -> list[Any]:
    return owner.execute("SELECT state FROM replays WHERE ended_at IS NULL").fetchall()


def test_a_projector_puts_collections_indexes_and_validators_right(
    guarded: Guarded, settings: ProjectorSettings, read_models: Database[Document]
) -> None:
    read_models.command("collMod", USERS_READ.name, validator={})
    read_models.users_read.drop_index(USERS_READ.indexes[0].name)
    read_models.drop_collection("items_read")
    with create_client(settings, "test") as client:
        open_relay_connection(settings, "test", read_model_database(client, settings))[0].close()
    found = {each["name"]: each["options"] for each in read_models.list_collections()}
    assert found[USERS_READ.name]["validator"] == USERS_READ.validator
    assert "validator" in found["items_read"]
    assert USERS_READ.indexes[0].name in read_models.users_read.index_information()


def test_housekeeping_and_samples(
    settings: ProjectorSettings,
    owner: psycopg.Connection,
    read_models: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(tombstones, "SEEN_BEFORE_SECONDS", 0.0)
    owner.execute("UPDATE idempotency_keys SET created_at = clock_timestamp() - interval '2 days'")
    owner.execute("UPDATE verifications SET ended_at = clock_timestamp() - interval '40 days'")
    owner.execute("UPDATE replays SET ended_at = clock_timestamp() - interval '100 days'")
    read_models.users_read.update_many({"deleted_at": {"$ne": None}}, {"$set": {"deleted_at": long_ago}})
    with create_client(settings, "test") as client:
        database = read_model_database(client, settings)
        open_connection = partial(open_relay_connection, settings, "test", database)
        purge = Housekeeping(settings, "test", TombstonePurge(settings, open_connection, database))
        purged = {**purge.purge_postgres(), **purge.purge_tombstones()}
        assert all(purged.values()), purged
        samples = Sampler(settings.model_copy(update={"verify_sample_seconds": 1}), "test", database).run_once()
        assert len(samples) == 2


def test_the_read_models_emptied_and_the_write_model_made_anew(running: Running, guarded: Guarded) -> None:
    refused = run([sys.executable, "api/scripts/clean_mongo.py"], guarded.environment(Role.API))
    assert refused.returncode == 2, refused.stderr
    assert "MongoDB refused, check MAINTENANCE_MONGO_URL or MONGO_URL: not authorized on" in refused.stderr
    emptied = clean(guarded)
    assert emptied.stdout.startswith("Emptied users_read"), emptied.stderr
    assert answer(projector(guarded, "replay", *JSON, maintenance=True)) == {"users": 30, "items": 100}
    assert answer(projector(guarded, "verify", *JSON))["drift"] == 0

    guarded.alembic("downgrade", "base")
    assert running.api.client.post("/users", json={"name": "Ada", "email": "ada@example.org"}).status_code == 503
    assert clean(guarded).returncode == 0
    guarded.alembic("upgrade", "head")
    assert CliRunner().invoke(seed.app, [], env=guarded.environment(Role.API)).exit_code == 0
    running.projector.wait_ready()
    settle(guarded)
    assert answer(projector(guarded, "verify", *JSON))["drift"] == 0
    assert running.api.client.get("/items/1").status_code == 200


def test_both_end_well_and_nothing_was_refused(running: Running) -> None:
    logs = running.projector.log.read_text() + running.api.log.read_text()
    assert running.projector.end() == 0
    running.api.process.terminate()
    assert running.api.process.wait(20) == 0
    refusals = [line for line in logs.splitlines() if "permission denied" in line or "not authorized" in line]
    assert refusals == []
