"""Two databases for one path: prepared once, remembered, and put back before each case in milliseconds."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final, Self
from uuid import UUID

import psycopg
from pymongo.database import Database
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern
from sqlalchemy.engine import make_url

from projector.settings import ProjectorSettings
from projector.shadow import uuid_of
from shared.mongo import Document, create_client, ensure_read_models, read_model_database
from shared.read_models import READ_MODELS
from shared.shadows import MARK
from tests.chaos.crash_points.actor import Actor, Notes
from tests.chaos.crash_points.effects import MONGODB, POSTGRES
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.shop import Shop
from tests.fixtures.tcp_proxy import TcpProxy

# What makes every time-out short.
IMPATIENT: Final = {
    "BATCH_DEADLINE_SECONDS": "1",
    "CONNECT_TIMEOUT_SECONDS": "1",
    "STATEMENT_TIMEOUT_SECONDS": "1",
    "REQUEST_TIMEOUT_SECONDS": "2",
    "READ_TIMEOUT_SECONDS": "1",
}

# A poisoned message is dead at its second failure; a lane asks at once again; a rename takes several steps.
SETTINGS: Final = {
    "MAX_ATTEMPTS": "2",
    "RETRY_PAUSE_SECONDS": "0",
    "POLL_INTERVAL_SECONDS": "0.01",
    "FAN_OUT_STEP": "1",
    "FAN_OUT_BUDGET_SECONDS": "0",
    "LOG_LEVEL": "error",
}

QUICK: Final = WriteConcern(w=1, j=False)

TABLES: Final = """
    SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY tablename
"""
SEQUENCES: Final = "SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences WHERE schemaname = 'public'"
END_SESSIONS: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Stage:
    """The databases, and how they were before the path began."""

    def __init__(self, path: Path, database_url: str, mongo_url: str, mongo_database: str) -> None:
        self.path = path
        self.proxies: dict[str, TcpProxy] = {}
        self._database_url, self._mongo_url = database_url, mongo_url
        self.environment: Mapping[str, str] = SETTINGS | {
            "DATABASE_URL": database_url,
            "MONGO_URL": mongo_url,
            "MONGO_DATABASE": mongo_database,
        }
        self.settings = ProjectorSettings.load(**{name.lower(): value for name, value in self.environment.items()})
        self.name = mongo_database
        self.ids: Mapping[str, int] = {}
        self.notes: Notes = {}
        self._stack = ExitStack()
        self._reset = ""
        self._collections: dict[str, list[Document]] = {}
        self._uuids: dict[str, UUID | None] = {}

    def __enter__(self) -> Self:
        self.postgres = self._stack.enter_context(psycopg.connect(self._database_url, autocommit=True))
        self.client = self._stack.enter_context(create_client(self.settings, "crash points"))
        self._stack.callback(lambda: self.client.drop_database(self.name))
        self.read_models: Database[Document] = read_model_database(self.client, self.settings)
        self._prepare()
        self._remember()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def impatient(self, *, behind_proxies: bool = False) -> Mapping[str, str]:
        """Return the environment of a process with short time-outs, to whom the network may be cut."""
        return self.environment | IMPATIENT | (self._through_proxies() if behind_proxies else {})

    def _through_proxies(self) -> Mapping[str, str]:
        if not self.proxies:
            (mongod, *_) = parse_uri(self._mongo_url)["nodelist"]
            for name, target in ((POSTGRES, (self.postgres.info.host, self.postgres.info.port)), (MONGODB, mongod)):
                self.proxies[name] = self._stack.enter_context(TcpProxy(target))
        postgres = make_url(self._database_url).set(host="127.0.0.1", port=self.proxies[POSTGRES].port)
        return {
            "DATABASE_URL": postgres.render_as_string(hide_password=False),
            "MONGO_URL": f"mongodb://127.0.0.1:{self.proxies[MONGODB].port}/?directConnection=true",
        }

    def reset(self) -> None:
        """Put everything back."""
        self.postgres.execute(END_SESSIONS)
        self.postgres.execute(self._reset.encode())
        there = self.read_models.list_collection_names()
        for name in there:
            if MARK in name and name not in self._collections:
                self.read_models.drop_collection(name)
        if any(read_model.name not in there for read_model in READ_MODELS):
            ensure_read_models(self.read_models)
        for name, documents in self._collections.items():
            if MARK in name:
                self._make_shadow(name)
            collection = self.read_models.get_collection(name, write_concern=QUICK)
            collection.delete_many({})
            if documents:
                collection.insert_many(documents)

    def _make_shadow(self, name: str) -> None:
        """Make a shadow anew that was swapped in or dropped, and have its replay know it."""
        (known,) = self.postgres.execute("SELECT shadow_uuid FROM replays WHERE shadow = %s", (name,)).fetchone() or ()
        if uuid_of(self.read_models, name) != self._uuids.get(name, known):
            self.read_models.drop_collection(name)
            (read_model,) = (each for each in READ_MODELS if name.startswith(f"{each.name}{MARK}"))
            ensure_read_models(self.read_models, (replace(read_model, name=name),))
        self._uuids[name] = uuid_of(self.read_models, name)
        self.postgres.execute("UPDATE replays SET shadow_uuid = %s WHERE shadow = %s", (self._uuids[name], name))

    def _prepare(self) -> None:
        with Actor(f"{self.name} before", self.settings, self.client, lambda *_: None) as actor:
            shop = Shop(actor)
            shop.open()
            self.path.prepare(shop)
            self.ids, self.notes = dict(shop.ids), dict(actor.notes)

    def _remember(self) -> None:
        tables = [name for (name,) in self.postgres.execute(TABLES)]
        self.postgres.execute("CREATE SCHEMA remembered")
        for table in tables:
            self.postgres.execute(f"CREATE TABLE remembered.{table} AS TABLE public.{table}".encode())
        self._reset = "; ".join(self._statements(tables, self.postgres.execute(SEQUENCES).fetchall()))
        for name in self.read_models.list_collection_names():
            self._collections[name] = list(self.read_models[name].find())

    @staticmethod
    def _statements(tables: Sequence[str], sequences: Sequence[tuple[str, int]]) -> list[str]:
        """Return what puts PostgreSQL back, to be sent at once."""
        return [
            "BEGIN",
            "SET LOCAL session_replication_role = replica",  # in any order, past the foreign keys
            *(f"DELETE FROM {table}" for table in tables),
            *(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE remembered.{table}" for table in tables),
            *(f"SELECT setval('{name}', {max(last, 1)}, {str(last > 0).lower()})" for name, last in sequences),
            "COMMIT",
        ]
