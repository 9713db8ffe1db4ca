"""What still works while a server is away, and that it all works again afterwards without a restart."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from pymongo import MongoClient

from api import metrics
from api.items import repository as items_repository
from api.settings import ApiSettings
from devstack.mongod import Mongod
from devstack.postgres import Postgres
from projector.process import Projector
from projector.relay import Relay
from shared.mongo import Document, ensure_read_models
from tests.fixtures.clients import ApiClient, serving
from tests.fixtures.databases import alembic
from tests.fixtures.relays import drain
from tests.fixtures.waiting import wait_until

IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'
"""


@dataclass(frozen=True)
class OwnServers:
    """Servers that a test may stop, and settings of an API on them."""

    postgres: Postgres
    mongod: Mongod
    settings: ApiSettings

    def messages(self) -> int:
        """Return how many messages there are."""
        with psycopg.connect(self.postgres.dsn) as connection:
            row = connection.execute("SELECT count(*) FROM outbox").fetchone()
        assert row
        return int(row[0])


@pytest.fixture(scope="module")
def own_servers() -> Iterator[OwnServers]:
    """Shared by this module; each test leaves both running."""
    with tempfile.TemporaryDirectory(prefix="kata-outages-") as name:
        directory = Path(name)
        # Run by root, PostgreSQL gets another user, who must be able to pass through.
        directory.chmod(0o711)
        with (
            Postgres.start(directory / "postgres", settings={"fsync": "off"}) as postgres,
            Mongod.start(directory / "mongo") as mongod,
        ):
            alembic(postgres.dsn, "upgrade", "head")
            with MongoClient[Document](mongod.uri) as client:
                ensure_read_models(client["kata"])
            yield OwnServers(
                postgres,
                mongod,
                ApiSettings(
                    database_url=postgres.dsn,  # type: ignore[arg-type] - settings read text
                    mongo_url=mongod.uri,  # type: ignore[arg-type] - settings read text
                    connect_timeout_seconds=1,
                    read_timeout_seconds=1,
                    default_wait_seconds=0,
                ),
            )


def assert_store_away(answer: httpx.Response, store: str) -> None:
    """Assert a problem that says which server is away and when to come again."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:kata:problem:store-away"
    assert answer.json()["detail"].startswith(f"{store} is away")
    assert int(answer.headers["retry-after"]) >= 1


def test_without_postgresql_reads_go_on_and_writes_say_so_and_lose_nothing(own_servers: OwnServers) -> None:
    with serving(own_servers.settings) as api, ThreadPoolExecutor(10) as pool:
        user = api.new_user()
        list(pool.map(lambda _: api.put(f"/users/{user['id']}", json={}), range(30)))  # the pool fills
        messages = own_servers.messages()
        own_servers.postgres.stop()
        try:
            for path in ("/users", "/items", "/tags", "/items?q=brie&tag=x", "/health", "/openapi.json"):
                assert api.get(path).status_code == 200
            assert api.get("/users/1").status_code == 404
            for answer in (
                api.post("/users", json={"name": "Eve", "email": "eve@example.org"}),
                api.put(f"/users/{user['id']}", json={"name": "Eve"}),
                api.delete(f"/users/{user['id']}", headers={"Prefer": "wait=30"}),
            ):
                assert_store_away(answer, "PostgreSQL")
            ready = api.get("/ready")
            assert (ready.status_code, ready.json()["status"], ready.json()["mongo"]) == (503, "not ready", "ok")
        finally:
            own_servers.postgres.restart()
        assert own_servers.messages() == messages
        # Not one write fails for a connection that the server had closed, however many were pooled.
        after = pool.map(lambda _: api.put(f"/users/{user['id']}", json={}), range(30))
        assert {answer.status_code for answer in after} == {202}
        assert own_servers.messages() == messages + 30
        assert api.get("/ready").status_code == 200
        listeners = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        with psycopg.connect(own_servers.postgres.dsn, autocommit=True) as connection:
            wait_until(lambda: connection.execute(listeners).fetchone() == (1,), "it listens again")


def test_a_postgresql_that_restarts_between_two_writes_is_not_noticed(own_servers: OwnServers) -> None:
    with serving(own_servers.settings) as api, ThreadPoolExecutor(10) as pool:
        user = api.new_user("Bob", "bob@example.org")
        for kill in (False, True):
            list(pool.map(lambda _: api.put(f"/users/{user['id']}", json={}), range(30)))
            if kill:
                own_servers.postgres.kill()
            own_servers.postgres.restart()
            after = pool.map(lambda _: api.put(f"/users/{user['id']}", json={}), range(30))
            assert {answer.status_code for answer in after} == {202}


def test_the_service_starts_and_stops_while_both_servers_are_away(own_servers: OwnServers) -> None:
    own_servers.postgres.stop()
    own_servers.mongod.stop()
    try:
        with serving(own_servers.settings) as api:
            assert api.get("/health").status_code == 200
            assert_store_away(api.post("/users", json={"name": "Eve", "email": "eve@example.org"}), "PostgreSQL")
            assert_store_away(api.get("/users"), "MongoDB")
            ready = api.get("/ready")
            assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
    finally:
        own_servers.postgres.restart()
        own_servers.mongod.restart()


def test_without_mongodb_writes_are_accepted_and_reads_say_so(own_servers: OwnServers) -> None:
    with serving(own_servers.settings) as api, ThreadPoolExecutor() as pool:
        messages = own_servers.messages()
        own_servers.mongod.stop()
        try:
            user = api.post("/users", json={"name": "Eve", "email": "eve@example.org"}, headers={"Prefer": "wait=1"})
            assert (user.status_code, user.headers["projection-status"]) == (202, "pending")
            assert own_servers.messages() == messages + 1
            for answer in pool.map(api.get, ("/users", user.headers["location"], "/items", "/tags")):
                assert_store_away(answer, "MongoDB")
        finally:
            own_servers.mongod.restart()
        assert api.get("/users").status_code == 200


def test_a_mongodb_that_is_silent_is_not_waited_for(own_servers: OwnServers) -> None:
    settings = own_servers.settings.model_copy(update={"read_timeout_seconds": 30, "request_timeout_seconds": 0.5})
    with serving(settings) as api, ThreadPoolExecutor() as pool:
        assert api.get("/users").status_code == 200
        os.kill(own_servers.mongod.pid, signal.SIGSTOP)
        try:
            for answer in pool.map(api.get, ("/users", "/users/1", "/items", "/items?q=brie", "/tags")):
                assert answer.status_code == 503
                assert answer.json()["type"] == "urn:kata:problem:deadline"
                assert answer.elapsed.total_seconds() < 4
        finally:
            os.kill(own_servers.mongod.pid, signal.SIGCONT)
        assert api.get("/users").status_code == 200


def test_a_postgresql_that_is_silent_is_not_waited_for(own_servers: OwnServers) -> None:
    settings = own_servers.settings.model_copy(update={"database_pool_size": 1, "request_timeout_seconds": 0.5})
    with serving(settings) as api, psycopg.connect(own_servers.postgres.dsn, autocommit=True) as postgres:
        path = api.post("/users", json={"name": "Eve", "email": "silent@example.org"}).headers["location"]
        row = postgres.execute("SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT'").fetchone()
        assert row
        os.kill(row[0], signal.SIGSTOP)
        try:
            answer = api.put(path, json={})
            assert answer.status_code == 503
            assert answer.json()["type"] == "urn:kata:problem:deadline"
            assert answer.elapsed.total_seconds() < 4
            assert api.put(path, json={}).json()["version"] == 2  # on a new connection
        finally:
            os.kill(row[0], signal.SIGCONT)


def test_without_tables_writes_say_so_and_reads_go_on(
    unprojected: ApiClient, relay: Relay, database_url: str, postgres: psycopg.Connection
) -> None:
    user = unprojected.new_user()
    for _ in range(10):
        unprojected.put("/users/1", json={})  # statements are prepared by now
    drain(relay)
    alembic(database_url, "downgrade", "base")
    assert_store_away(unprojected.post("/users", json={"name": "Eve", "email": "eve@example.org"}), "PostgreSQL")
    assert_store_away(unprojected.put("/users/1", json={}), "PostgreSQL")
    assert unprojected.get("/users/1").json()["name"] == user["name"]
    assert unprojected.get("/ready").status_code == 503
    alembic(database_url, "upgrade", "head")
    for _ in range(12):
        assert unprojected.put("/users/1", json={}).status_code == 404
    assert unprojected.post("/users", json={"name": "Eve", "email": "eve@example.org"}).status_code == 202


def test_a_read_only_postgresql_is_away_for_writes(unprojected: ApiClient, postgres: psycopg.Connection) -> None:
    name = sql.Identifier(postgres.info.dbname)
    postgres.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    assert_store_away(unprojected.post("/users", json={"name": "Eve", "email": "eve@example.org"}), "PostgreSQL")


def test_when_every_connection_is_busy_a_write_is_told_to_come_again(
    make_api: Callable[..., ApiClient], database_url: str, postgres: psycopg.Connection
) -> None:
    api = make_api(database_pool_size=1, database_pool_timeout_seconds=0.1, default_wait_seconds=0)
    api.new_user()
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT FROM users FOR UPDATE")
        first = pool.submit(api.put, "/users/1", json={})
        wait_until(lambda: postgres.execute(blocked).fetchone() == (1,), "the only connection is busy")
        answer = api.put("/users/1", json={})
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:kata:problem:overloaded"
        assert int(answer.headers["retry-after"]) >= 1
        assert api.get("/users").status_code == 200
        other.rollback()
        assert first.result().status_code == 202
    assert api.put("/users/1", json={}).json()["version"] == 3


def test_a_statement_that_takes_too_long_is_given_up(make_api: Callable[..., ApiClient], database_url: str) -> None:
    api = make_api(statement_timeout_seconds=0.1, default_wait_seconds=0)
    api.new_user()
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM users FOR UPDATE")
        assert_store_away(api.put("/users/1", json={}), "PostgreSQL")
    assert api.put("/users/1", json={}).json()["version"] == 2


def test_lag_makes_it_degraded_and_not_unready(
    make_api: Callable[..., ApiClient], relay: Relay, postgres: psycopg.Connection
) -> None:
    api = make_api(default_wait_seconds=0)
    assert api.get("/ready").json() == {
        "status": "ready", "postgres": "ok", "mongo": "ok", "read_models": "ok", "lag_seconds": 0,
    }  # fmt: skip
    api.new_user()
    postgres.execute("UPDATE outbox SET created_at = now() - interval '1 minute'")
    wait_until(lambda: api.get("/ready").json()["status"] == "degraded", "the lag is seen")
    ready = api.get("/ready")
    assert ready.status_code == 200
    assert 60 <= ready.json()["lag_seconds"] < 90
    drain(relay)
    wait_until(lambda: api.get("/ready").json()["status"] == "ready", "the lag is gone")


def test_a_lag_that_takes_too_long_to_tell_makes_nothing_unready(
    unprojected: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "OLDEST_AGE", "SELECT pg_sleep(60), 0")
    ready = unprojected.get("/ready")
    assert (ready.status_code, ready.json()["status"], ready.json()["postgres"]) == (200, "ready", "ok")
    assert "lag_seconds" not in ready.json()


def test_reads_never_ask_postgresql(
    running_projector: Projector, api: ApiClient, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.new_item(api.new_user()["id"])
    statements: list[Any] = []
    execute = psycopg.AsyncCursor.execute

    async def noted(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        statements.append(query)
        return await execute(self, query, params, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", noted)
    for path in ("/users", "/users/1", "/users?email=ada@example.org", "/items", "/items/1", "/items?q=brie", "/tags"):
        assert api.get(path).status_code == 200
    assert statements == []


def test_a_command_that_stood_still_until_the_server_ended_its_transaction_may_be_repeated(
    make_api: Callable[..., ApiClient], postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(statement_timeout_seconds=0.1, default_wait_seconds=0)
    item_id = api.new_item(api.new_user()["id"])["id"]
    tags_of = items_repository.tags_of

    async def stand_still(connection: psycopg.AsyncConnection, item: int) -> list[str]:
        # The whole process does; the driver hears of it when it speaks next.
        wait_until(lambda: postgres.execute(IN_TRANSACTION).fetchone() == (0,), "the server has ended the transaction")
        return await tags_of(connection, item)

    with monkeypatch.context() as still:
        still.setattr(items_repository, "tags_of", stand_still)
        refused = api.put(f"/items/{item_id}", json={"quality": 7})
    assert_store_away(refused, "PostgreSQL")
    assert api.put(f"/items/{item_id}", json={"quality": 7}).json()["version"] == 2
