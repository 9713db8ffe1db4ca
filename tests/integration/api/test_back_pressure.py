"""Back-pressure: what slow, absent and too many clients cost, and the one deadline behind every request."""

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from api import deadline, pool
from projector.relay import Relay
from tests.fixtures.clients import ApiClient, row_counts
from tests.fixtures.relays import drain
from tests.fixtures.waiting import wait_until

ADA = {"name": "Ada", "email": "ada@example.org"}
BOB = {"name": "Bob", "email": "bob@example.org"}
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def raw(method: str, path: str, body: Any, *headers: str) -> bytes:
    """Return a request as it goes over the wire."""
    content = json.dumps(body)
    lines = [
        f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json",
        f"Content-Length: {len(content)}", *headers, "", content,
    ]  # fmt: skip
    return "\r\n".join(lines).encode()


@contextmanager
def sending(api: ApiClient, content: bytes) -> Iterator[socket.socket]:
    """Open a connection and send `content` on it; it is closed at the end, whatever was answered."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        connection.sendall(content)
        yield connection


def received(connection: socket.socket) -> str:
    """Return all that comes until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@contextmanager
def locked_users(database_url: str) -> Iterator[None]:
    """Inside, every command that changes a user blocks."""
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM users FOR UPDATE")
        yield
        other.rollback()


def blocked(postgres: psycopg.Connection) -> int:
    """Return how many commands wait for a lock."""
    row = postgres.execute(BLOCKED).fetchone()
    assert row
    return int(row[0])


def assert_problem(answer: httpx.Response, kind: str) -> None:
    """Assert a 503 of this kind that says when to come again."""
    assert answer.status_code == 503, answer.text
    assert answer.json()["type"] == f"urn:kata:problem:{kind}"
    assert int(answer.headers["retry-after"]) >= 1


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the client is still there is looked at from the beginning."""
    monkeypatch.setattr(deadline, "PATIENCE_SECONDS", 0.01)


# Slow clients


def test_a_body_that_does_not_come_holds_no_connection_and_is_given_up(
    make_api: Callable[..., ApiClient], postgres: psycopg.Connection
) -> None:
    api = make_api(
        database_pool_size=1, database_pool_timeout_seconds=0.2, default_wait_seconds=0, body_timeout_seconds=1
    )
    with sending(api, raw("POST", "/users", ADA)[:-5]) as slow:
        assert api.post("/users", json=BOB).status_code == 202
        answer = received(slow)
    assert answer.startswith("HTTP/1.1 408 ")
    assert "urn:kata:problem:body-timeout" in answer
    assert "connection: close" in answer.lower()
    assert row_counts(postgres)["users"] == 1


def test_a_body_that_trickles_is_given_up_as_well(make_api: Callable[..., ApiClient]) -> None:
    api = make_api(body_timeout_seconds=0.5)
    request = raw("POST", "/users", ADA | {"name": "A" * 200})
    with sending(api, request[:-200]) as slow:
        slow.settimeout(0.02)
        for byte in request[-200:-1]:
            slow.sendall(bytes([byte]))
            try:
                answer = slow.recv(65536)
            except TimeoutError:
                continue
            break
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_goes_away_within_its_body_is_no_error(api: ApiClient) -> None:
    with capture_logs() as lines:
        with sending(api, raw("POST", "/users", ADA)[:-5]):
            pass
        wait_until(lambda: lines, "the request is logged")
    assert [(line["event"], line["status"], line["log_level"]) for line in lines] == [("request", 499, "info")]


# Clients that go away


def test_a_client_that_goes_away_takes_its_running_command_along(
    at_once: None, make_api: Callable[..., ApiClient], database_url: str, postgres: psycopg.Connection
) -> None:
    api = make_api(database_pool_size=1, database_pool_timeout_seconds=1, default_wait_seconds=0)
    api.new_user()
    with locked_users(database_url):
        with sending(api, raw("PUT", "/users/1", {})):
            wait_until(lambda: blocked(postgres), "the command is blocked")
        wait_until(lambda: not blocked(postgres), "nobody waits for the lock any more", seconds=4)
        assert api.post("/users", json=BOB).status_code == 202
    assert api.put("/users/1", json={}).json()["version"] == 2


def test_a_client_that_goes_away_while_it_waits_leaves_no_waiter_and_its_write_is_done(
    at_once: None, api: ApiClient, relay: Relay
) -> None:
    with capture_logs() as lines:
        with sending(api, raw("POST", "/users", ADA, "Prefer: wait=30")):
            wait_until(lambda: api.app.state.settlements.waiting == 1, "the write waits")
        wait_until(lambda: api.app.state.settlements.waiting == 0, "nobody waits", seconds=4)
        wait_until(lambda: lines, "the request is logged")
    assert (lines[0]["status"], lines[0]["message_id"]) == (499, 1)
    drain(relay)
    assert api.get("/users/1").json()["name"] == "Ada"


def test_a_client_that_goes_away_while_it_waits_for_a_connection_leaves_the_queue(
    at_once: None, make_api: Callable[..., ApiClient], database_url: str, postgres: psycopg.Connection
) -> None:
    api = make_api(database_pool_size=1, database_pool_timeout_seconds=5, default_wait_seconds=0)
    api.new_user()
    with ThreadPoolExecutor() as threads, locked_users(database_url), capture_logs() as lines:
        first = threads.submit(api.put, "/users/1", json={})
        wait_until(lambda: blocked(postgres), "the only connection is busy")
        with sending(api, raw("POST", "/users", BOB)):
            wait_until(lambda: api.app.state.services.pool.waiting == 1, "another command waits for it")
        wait_until(lambda: api.app.state.services.pool.waiting == 0, "it waits no longer", seconds=4)
        assert [line["status"] for line in lines] == [499]
    assert first.result().status_code == 202
    assert row_counts(postgres)["users"] == 1


# Too many clients


def test_only_so_many_wait_for_a_connection_and_the_others_are_told_at_once(
    make_api: Callable[..., ApiClient],
    database_url: str,
    postgres: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "WAITING_PER_CONNECTION", 3)
    api = make_api(database_pool_size=2, database_pool_timeout_seconds=30, default_wait_seconds=0)
    api.new_user()
    clients, let_in = 20, 2 + 2 * 3
    with ThreadPoolExecutor(clients) as threads, locked_users(database_url):
        answers = [threads.submit(api.put, "/users/1", json={}) for _ in range(clients)]
        wait_until(lambda: sum(answer.done() for answer in answers) == clients - let_in, "the others are answered")
        for answer in answers:
            if answer.done():
                assert_problem(answer.result(), "overloaded")
        assert api.get("/users/1").status_code == 404  # reads go on
    assert sorted(answer.result().status_code for answer in answers) == [202] * let_in + [503] * (clients - let_in)
    assert api.put("/users/1", json={}).json()["version"] == let_in + 2


# The deadline


def test_a_command_that_takes_too_long_is_rolled_back_and_gives_its_connection_back(
    make_api: Callable[..., ApiClient], database_url: str, postgres: psycopg.Connection
) -> None:
    api = make_api(
        database_pool_size=1, default_wait_seconds=0, request_timeout_seconds=0.5, statement_timeout_seconds=30
    )
    api.new_user()
    with locked_users(database_url):
        answer = api.put("/users/1", json={})
        assert_problem(answer, "deadline")
        assert answer.elapsed.total_seconds() < 3
        assert not blocked(postgres)
        assert api.post("/users", json=BOB).status_code == 202
    assert api.put("/users/1", json={}).json()["version"] == 2


def test_a_commit_that_takes_too_long_has_an_unknown_outcome(
    make_api: Callable[..., ApiClient], postgres: psycopg.Connection
) -> None:
    api = make_api(
        database_pool_size=1, default_wait_seconds=0, request_timeout_seconds=0.5, statement_timeout_seconds=30
    )
    postgres.execute("""
        CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER sleep AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION sleep();
    """)
    assert_problem(api.post("/users", json=ADA), "outcome-unknown")
    postgres.execute("DROP TRIGGER sleep ON outbox")
    assert api.post("/users", json=BOB).status_code == 202


def test_a_write_that_is_committed_waits_beyond_the_deadline_and_is_accepted(
    make_api: Callable[..., ApiClient], postgres: psycopg.Connection
) -> None:
    api = make_api(request_timeout_seconds=0.5)
    answer = api.post("/users", json=ADA, headers={"Prefer": "wait=2"})
    assert (answer.status_code, answer.headers["projection-status"]) == (202, "pending")
    assert 2 <= answer.elapsed.total_seconds() < 6


def test_a_read_waits_for_its_token_beyond_the_deadline(make_api: Callable[..., ApiClient]) -> None:
    api = make_api(default_wait_seconds=0, request_timeout_seconds=0.5)
    token = api.post("/users", json=ADA).headers["consistency-token"]
    answer = api.get("/users/1", headers={"Consistency-Token": token, "Prefer": "wait=1"})
    assert_problem(answer, "projection-pending")
    assert answer.elapsed.total_seconds() >= 1
