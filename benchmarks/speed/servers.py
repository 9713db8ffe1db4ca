"""Servers of a benchmark's own, durable as in production, and the product's processes on them."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, Self
from urllib.request import urlopen

import psycopg
from pymongo import MongoClient
from pymongo.database import Database

from devstack.mongod import Mongod
from devstack.postgres import Postgres
from devstack.scratch import scratch_directory
from projector import outbox
from shared.mongo import read_model_database
from shared.settings import Settings

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 60
# One looks whether all is settled after every hundredth more of the time so far, so that it costs nothing that counts.
POLLS: Final = 100
POLL_SECONDS: Final = (0.0005, 0.01)

# Memory as servers of a million items have it; devstack's own are made for tests.
POSTGRES_SETTINGS: Final = {"max_connections": "300", "shared_buffers": "512MB"}
MONGOD_CACHE: Final = "2G"
# What the stores are made of, so that each need not migrate by itself.
MIGRATED: Final = "bench_migrated"

Document = dict[str, Any]


class Store:
    """A migrated PostgreSQL database and a MongoDB database, both empty, of one benchmark."""

    def __init__(self, database_url: str, mongo_url: str, mongo_database: str) -> None:
        self.settings = Settings(
            database_url=database_url,  # type: ignore[arg-type] - settings read text
            mongo_url=mongo_url,  # type: ignore[arg-type] - settings read text
            mongo_database=mongo_database,
        )
        self.database_url = database_url
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        self.postgres = enter(psycopg.connect(self.database_url, autocommit=True))
        # Messages are read as a relay reads them.
        outbox.prepare(self.postgres)
        client = enter(MongoClient[Document](self.settings.mongo_url.get_secret_value(), tz_aware=True))
        self.mongo: Database[Document] = read_model_database(client, self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to work on it."""
        return {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "MONGO_URL": self.settings.mongo_url.get_secret_value(),
            "MONGO_DATABASE": self.settings.mongo_database,
            "LOG_LEVEL": "warning",
            "PROJECTOR_HTTP_PORT": "0",
            "VERIFY_SAMPLE_SECONDS": "0",
        }

    @contextmanager
    def process(self, command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a process meanwhile."""
        with subprocess.Popen(command, cwd=ROOT, env={**self.environment, **environment}) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.wait(30)

    @contextmanager
    def projector(self, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run `projector run` meanwhile; it relays already."""
        before = self._lanes()
        with self.process([sys.executable, "-m", "projector.cli", "run"], **environment) as process:
            wait_until(lambda: self._lanes() > before, "the projector relays", process)
            yield process

    @contextmanager
    def serving(self, command: Sequence[str], **environment: str) -> Iterator[str]:
        """Run a server that takes its port from API_PORT meanwhile; yield its base URL once it answers /health."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with self.process(command, API_PORT=str(port), **environment) as process:
            wait_until(lambda: _answers(f"{url}/health"), f"{url} answers", process)
            yield url

    @contextmanager
    def api(self, **environment: str) -> Iterator[str]:
        """Run the API meanwhile; yield its base URL."""
        with self.serving([sys.executable, "-m", "api.main"], **environment) as url:
            yield url

    def run(self, *command: str, text: str | None = None) -> str:
        """Run a command of the product to its end and return its output."""
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=self.environment, input=text, check=True, capture_output=True,
            text=True,
        )  # fmt: skip
        return done.stdout

    def settled(self) -> int:
        """Return how many messages the projectors have settled so far."""
        row = self.postgres.execute("SELECT coalesce(sum(settled), 0) FROM projectors").fetchone()
        assert row is not None  # noqa: S101 - an aggregate has a row
        return int(row[0])

    def wait_settled(self, total: int, *, seconds: float = 600) -> None:
        """Wait until so many messages were settled in all."""
        begun = time.monotonic()
        shortest, longest = POLL_SECONDS
        while self.settled() < total:
            waited = time.monotonic() - begun
            if waited > seconds:
                raise TimeoutError(f"{self.settled()} of {total} messages were settled after {seconds} s")
            time.sleep(min(max(waited / POLLS, shortest), longest))

    def _lanes(self) -> int:
        row = self.postgres.execute("SELECT count(*) FROM projectors").fetchone()
        return int(row[0]) if row else 0


class Servers:
    """An embedded PostgreSQL and an embedded mongod that write through to the disk."""

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        directory = self._stack.enter_context(scratch_directory())
        self._postgres = self._stack.enter_context(Postgres.start(directory / "postgres", settings=POSTGRES_SETTINGS))
        self._mongod = self._stack.enter_context(Mongod.start(directory / "mongo"))
        with MongoClient[Document](self._mongod.uri) as client:
            client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=f"cache_size={MONGOD_CACHE}")
        self._numbers = count(1)
        self._execute(f"CREATE DATABASE {MIGRATED}")
        with Store(self._postgres.dsn_of(MIGRATED), self._mongod.uri, MIGRATED) as migrated:
            migrated.run("-m", "alembic", "upgrade", "head")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Make two databases, migrated, and drop them afterwards."""
        name = f"bench_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {MIGRATED}")
        try:
            with Store(self._postgres.dsn_of(name), self._mongod.uri, name) as store:
                yield store
                store.mongo.client.drop_database(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._postgres.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def versions(self) -> Mapping[str, str]:
        """Return the servers' versions."""
        with psycopg.connect(self._postgres.dsn) as connection, MongoClient[Document](self._mongod.uri) as client:
            postgres = connection.info.parameter_status("server_version") or ""
            return {"PostgreSQL": postgres, "MongoDB": json.loads(json.dumps(client.server_info()["version"]))}


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310 - our own, on this machine
            return int(answer.status) == 200
    except OSError:
        return False


def wait_until(condition: Callable[[], object], what: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until it holds. Raises RuntimeError when the process ends before, TimeoutError when it takes too long."""
    until = time.monotonic() + START_SECONDS
    while not condition():
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode} before {what}")
        if time.monotonic() > until:
            raise TimeoutError(f"not within {START_SECONDS} s: {what}")
        time.sleep(0.02)
