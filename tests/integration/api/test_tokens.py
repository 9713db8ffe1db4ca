"""Consistency tokens: any read, by any client, on any API process, sees at least the write that the token names."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.consistency.token import Token
from projector.process import Projector
from projector.relay import Relay
from shared.outbox.lookup import LOOK_UP
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.relays import drain
from tests.fixtures.statements import before_each_statement
from tests.fixtures.waiting import wait_until

ADA = {"name": "Ada", "email": "ada@example.org"}
TOKEN = "Consistency-Token"


def test_every_write_answers_a_token(api: httpx.Client, relay: Relay) -> None:
    created = api.post("/users", json=ADA, headers={"Prefer": "respond-async"})
    updated = api.put("/users/1", json={"name": "Ada King"}, headers={"Prefer": "wait=0"})
    deleted = api.delete("/users/1", headers={"Prefer": "respond-async"})

    tokens = {answer.headers[TOKEN] for answer in (created, updated, deleted)}
    assert len(tokens) == 3


def test_a_read_with_a_token_waits_for_its_write_and_a_read_without_does_not(
    start_api: Callable[[], ApiProcess], relay: Relay
) -> None:
    writer, reader = start_api().client, start_api().client
    written = writer.post("/users", json=ADA, headers={"Prefer": "respond-async"})
    token = {TOKEN: written.headers[TOKEN]}

    # The relay is held: nobody steps it.
    assert reader.get("/users/1").status_code == 404
    pending = reader.get("/users/1", headers=token | {"Prefer": "wait=0"})
    assert pending.status_code == 503
    assert pending.json()["type"] == "urn:kata:problem:projection-pending"
    assert pending.headers["Retry-After"] == "1"
    drain(relay)
    assert reader.get("/users/1", headers=token).json() == written.json()
    assert [user["id"] for user in reader.get("/users", headers=token).json()] == [1]


def test_a_waiting_read_is_answered_by_the_settling_of_a_write_nobody_waited_for(
    make_api: Callable[..., httpx.Client],
    relay: Relay,
    postgres: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.consistency.settlements.CHECK_SECONDS", 3600.0)
    writer, reader = make_api(), make_api()
    token = writer.post("/users", json=ADA, headers={"Prefer": "respond-async"}).headers[TOKEN]

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(reader.get, "/users/1", headers={TOKEN: token, "Prefer": "wait=30"})
        statement = "SELECT bool_and(awaited) FROM outbox"
        wait_until(lambda: postgres.execute(statement).fetchone() == (True,), "the message is awaited")
        drain(relay)
        assert reading.result(20).status_code == 200


def test_a_token_of_another_installation_or_a_broken_one_is_refused(api: httpx.Client) -> None:
    written = api.post("/users", json=ADA, headers={"Prefer": "respond-async"}).headers[TOKEN]

    broken: tuple[str | bytes, ...] = (
        Token(uuid4(), 1).encode(),
        "x",
        "",
        written[:-2],
        f"A{written[1:]}",
        "\xc3\xa9".encode("latin-1"),
    )
    for token in broken:
        refused = api.get("/users", headers=[(TOKEN, token)])
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:kata:problem:bad-token"), token


def test_a_token_of_a_dead_letter_answers_failed_until_a_newer_version_settles(
    api: httpx.Client, relay: Relay, postgres: psycopg.Connection
) -> None:
    token = {TOKEN: api.post("/users", json=ADA, headers={"Prefer": "respond-async"}).headers[TOKEN]}
    postgres.execute("UPDATE outbox SET payload = '{}'")
    drain(relay)

    failed = api.get("/users/1", headers=token)
    assert (failed.status_code, failed.json()["type"]) == (503, "urn:kata:problem:projection-failed")
    api.put("/users/1", json={}, headers={"Prefer": "respond-async"})
    drain(relay)
    assert api.get("/users/1", headers=token).status_code == 200


def test_a_settled_token_costs_one_statement_that_looks_up_primary_keys(
    api: httpx.Client, running_projector: Projector, postgres: psycopg.Connection
) -> None:
    token = {TOKEN: api.post("/users", json=ADA).headers[TOKEN]}
    api.get("/users/1", headers=token)  # a process's first also looks whose the read models are
    statements: list[str] = []

    with before_each_statement(statements.append):
        assert api.get("/users/1", headers=token).status_code == 200

    assert len(statements) == 1
    postgres.execute("SET enable_seqscan = off")
    plan = "\n".join(row[0] for row in postgres.execute(f"EXPLAIN {LOOK_UP}", {"id": 1}))
    assert "using pk_outbox on outbox" in plan
    assert "using pk_outbox_failures on outbox_failures" in plan


def test_thousands_of_token_reads_under_load_are_never_stale(
    start_api: Callable[[], ApiProcess], running_projector: Projector
) -> None:
    processes = start_api().client, start_api().client
    people = [{"name": "0", "email": f"{number}@example.org"} for number in range(8)]
    users = [processes[0].post("/users", json=person).json()["id"] for person in people]

    def write_and_read(user: int) -> list[int]:
        stale = []
        for version in range(2, 66):
            written = processes[version % 2].put(
                f"/users/{user}", json={"name": str(version)}, headers={"Prefer": "respond-async"}
            )
            headers = {TOKEN: written.headers[TOKEN], "Prefer": "wait=30"}
            for reader in processes * 2:
                read = reader.get(f"/users/{user}", headers=headers)
                if read.status_code != 200 or read.json()["version"] < version:
                    stale.append(version)
        return stale

    with ThreadPoolExecutor(len(users)) as pool:
        assert [stale for stale in pool.map(write_and_read, users) if stale] == []
