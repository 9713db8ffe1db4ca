"""A projector as a process of its own, databases that may be restarted, and rows of the write model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from devstack.mongod import Mongod
from devstack.postgres import Postgres
from devstack.scratch import scratch_directory
from projector.projections.registry import PROJECTIONS
from projector.relay import Relay
from projector.repair import append_repairs
from projector.rows import events_of
from projector.settings import ProjectorSettings
from shared.events.event import deleted
from shared.mongo import Document
from shared.outbox.append import append_all
from tests.fixtures.databases import ROOT, alembic
from tests.fixtures.relays import drain
from tests.fixtures.waiting import wait_until


def environment_of(settings: ProjectorSettings) -> dict[str, str]:
    """Return the environment in which a process works on the databases of `settings`."""
    values = {name.upper(): value for name, value in settings if value is not None}
    return os.environ | {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in (values | {"LOG_FORMAT": "json"}).items()
    }


def run_cli(
    settings: ProjectorSettings, *arguments: str, module: str = "projector.cli", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command `projector` to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment_of(settings) | environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@dataclass
class ProjectorProcess:
    """`projector run` as an operator starts it."""

    process: subprocess.Popen[bytes]
    log: Path
    http: httpx.Client = field(default_factory=partial(httpx.Client, timeout=10))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of this name."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def wait_started(self) -> None:
        """Return once it answers HTTP."""
        wait_until(lambda: self.events("projector.started") or self.process.poll() is not None, "it has started", 60)

    def get(self, path: str) -> httpx.Response:
        """Ask its HTTP port."""
        if not self.http.base_url.host:
            self.http.base_url = f"http://127.0.0.1:{self.events('projector.started')[0]['port']}"
        return self.http.get(path)

    def ready(self) -> httpx.Response:
        """Ask /ready."""
        return self.get("/ready")

    def wait_ready(self) -> None:
        """Return once every lane relays."""
        self.wait_started()
        wait_until(lambda: self.ready().status_code == 200, "the projector is ready", 60)

    def reasons(self) -> str:
        """Return what /ready says it waits for, as one text."""
        body = self.ready().json()
        return " ".join([body.get("postgres", ""), *(lane["reason"] for lane in body["lanes"])])

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def start_projector(settings: ProjectorSettings, tmp_path: Path) -> Iterator[Callable[..., ProjectorProcess]]:
    """Starts projectors as processes; those still running at the end are killed."""
    started: list[ProjectorProcess] = []

    def start(changed: ProjectorSettings = settings, module: str = "projector.cli") -> ProjectorProcess:
        log = tmp_path / f"projector-{len(started)}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "run"], cwd=ROOT, env=environment_of(changed), stderr=stderr
            )
        started.append(ProjectorProcess(process, log))
        return started[-1]

    yield start
    for projector in started:
        projector.process.kill()
        projector.process.wait()
        projector.http.close()


@dataclass
class OwnServers:
    """Servers that a test may stop, restart and make fail."""

    postgres: Postgres
    mongod: Mongod
    settings: ProjectorSettings

    def fail(self, mode: dict[str, int] | str, **data: Any) -> None:
        """Let MongoDB answer commands as `data` says, see its fail point `failCommand`."""
        with MongoClient[dict[str, Any]](self.mongod.uri) as client:
            client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)


@pytest.fixture(scope="session")
def own_server_pair() -> Iterator[tuple[Postgres, Mongod]]:
    """A PostgreSQL and a mongod beside those of the other tests."""
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory())
        settings = {"fsync": "off", "max_prepared_transactions": "2"}
        postgres = stack.enter_context(Postgres.start(directory / "postgres", settings=settings))
        mongod = stack.enter_context(Mongod.start(directory / "mongo", parameters={"enableTestCommands": "1"}))
        yield postgres, mongod


@pytest.fixture
def own_servers(own_server_pair: tuple[Postgres, Mongod], request: pytest.FixtureRequest) -> Iterator[OwnServers]:
    """The servers that may fail, running, with databases of this test's own that are not migrated yet."""
    postgres, mongod = own_server_pair
    name = f"own_{abs(hash(request.node.name))}"
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    settings = ProjectorSettings(
        database_url=postgres.dsn_of(name),  # type: ignore[arg-type] - settings read text
        mongo_url=mongod.uri,  # type: ignore[arg-type] - settings read text
        mongo_database=name,
        projector_http_port=0,
        verify_sample_seconds=0,
        connect_timeout_seconds=1,
        batch_deadline_seconds=2,
    )
    yield OwnServers(postgres, mongod, settings)
    if mongod.child.exit_code is None:
        OwnServers(postgres, mongod, settings).fail("off")


def migrate(settings: ProjectorSettings) -> None:
    """Bring a database to the newest migration."""
    alembic(settings.database_url.get_secret_value(), "upgrade", "head")


@dataclass
class Rows:
    """Writes rows of the write model without messages, as they are long after their messages were settled."""

    connection: psycopg.Connection

    def user(self, name: str = "Ada", version: int = 1) -> int:
        """Insert a user and return its id."""
        return self._id(
            "INSERT INTO users (name, email, version, created_at, updated_at)"
            " VALUES (%s, gen_random_uuid() || '@example.org', %s, '2026-01-02 03:04:05.678Z', clock_timestamp())"
            " RETURNING id",
            (name, version),
        )

    def item(
        self, owner_id: int, name: str = "a thing", *, version: int = 1, description: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> int:  # fmt: skip
        """Insert an item and return its id."""
        item_id = self._id(
            "INSERT INTO items (name, description, sell_in, quality, owner_id, version)"
            " VALUES (%s, %s, 1, 2, %s, %s) RETURNING id",
            (name, description, owner_id, version),
        )
        for position, tag in enumerate(tags, 1):
            self.connection.execute("INSERT INTO tags (name) VALUES (%s) ON CONFLICT DO NOTHING", (tag,))
            self.connection.execute(
                "INSERT INTO item_tags (item_id, position, tag_id) SELECT %s, %s, id FROM tags WHERE name = %s",
                (item_id, position, tag),
            )
        return item_id

    def _id(self, statement: str, values: tuple[Any, ...]) -> int:
        row = self.connection.execute(statement.encode(), values).fetchone()
        assert row
        return int(row[0])


@pytest.fixture
def rows(postgres: psycopg.Connection) -> Rows:
    """The write model of this test's database."""
    return Rows(postgres)


@dataclass
class Commands:
    """Changes rows as commands do: each in one transaction with its message."""

    connection: psycopg.Connection

    def create_user(self) -> int:
        """Add a user and return its id."""
        with self.connection.transaction():
            return self._sent("user", Rows(self.connection).user(), "created")

    def create_item(self, owner_id: int) -> int:
        """Add an item and return its id."""
        with self.connection.transaction():
            return self._sent("item", Rows(self.connection).item(owner_id), "created")

    def rename(self, aggregate_type: str, aggregate_id: int, name: str) -> None:
        """Change the name of an aggregate."""
        statement = f"UPDATE {aggregate_type}s SET name = %s, version = version + 1 WHERE id = %s"
        with self.connection.transaction():
            self.connection.execute(statement.encode(), (name, aggregate_id))
            self._sent(aggregate_type, aggregate_id, "updated")

    def delete(self, aggregate_type: str, aggregate_id: int) -> None:
        """Delete an aggregate."""
        statement = f"DELETE FROM {aggregate_type}s WHERE id = %s RETURNING version, clock_timestamp()::timestamptz(3)"
        with self.connection.transaction():
            row = self.connection.execute(statement.encode(), (aggregate_id,)).fetchone()
            assert row
            append_all(self.connection.cursor(), [deleted(aggregate_type, aggregate_id, row[0] + 1, row[1])])

    def _sent(self, aggregate_type: str, aggregate_id: int, happened: str) -> int:
        source = PROJECTIONS[aggregate_type].rows
        (state,) = events_of(self.connection, aggregate_type, source, [aggregate_id])
        append_all(self.connection.cursor(), [replace(state, event_type=f"{aggregate_type}.{happened}")])
        return aggregate_id


@pytest.fixture
def commands(postgres: psycopg.Connection) -> Commands:
    """Commands on this test's database."""
    return Commands(postgres)


@dataclass
class ReadModels:
    """Brings the read models to what the rows say, and spoils them."""

    connection: psycopg.Connection
    database: Database[Document]
    relay: Relay

    def fill(self) -> None:
        """Bring every row into the read models."""
        for aggregate_type, projection in PROJECTIONS.items():
            rows = self.connection.execute(f"SELECT id, 0 FROM {projection.rows.table}".encode()).fetchall()
            append_repairs(self.connection, aggregate_type, dict(rows))
        drain(self.relay)

    def document(self, aggregate_type: str, aggregate_id: int) -> dict[str, Any]:
        """Return what the read model holds."""
        return self.collection(aggregate_type).find_one({"_id": aggregate_id}) or {}

    def collection(self, aggregate_type: str) -> Collection[Document]:
        """Return the collection of this aggregate type."""
        return self.database[PROJECTIONS[aggregate_type].read_model.name]

    def spoil(self, aggregate_type: str, aggregate_id: int, **fields: Any) -> None:
        """Write to a document past the service."""
        self.collection(aggregate_type).update_one({"_id": aggregate_id}, {"$set": fields})

    def lose(self, aggregate_type: str, *ids: int) -> None:
        """Delete documents past the service."""
        self.collection(aggregate_type).delete_many({"_id": {"$in": list(ids)}})


@pytest.fixture
def shown(postgres: psycopg.Connection, read_models: Database[Document], relay: Relay) -> ReadModels:
    """The read models of this test's database, and the relay that fills them."""
    return ReadModels(postgres, read_models, relay)
