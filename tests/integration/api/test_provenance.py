"""What MongoDB does not hold any more is not read as if it did, also when it was restored while its server went on."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from pymongo.database import Database

from api.consistency.provenance import Provenance
from api.pool import Pool
from api.settings import ApiSettings
from projector.handshake import shake_hands
from projector.relay import Relay
from shared.installation import READ_INSTALLATION
from shared.mongo import Document, async_read_model_database, create_async_client
from shared.outbox.lookup import AsOf
from tests.fixtures.clients import ApiClient, item_body
from tests.fixtures.relays import drain
from tests.fixtures.statements import before_each_statement
from tests.fixtures.waiting import wait_until

ADA = {"name": "Ada", "email": "ada@example.org"}
TOKEN = "Consistency-Token"
KEY = {"Idempotency-Key": "once"}


def restore(database: Database[Document], dump: dict[str, list[Document]]) -> None:
    """Let the collections hold what they held, as a program that restores a dump does."""
    for name in database.list_collection_names():
        database[name].delete_many({})
        if dump.get(name):
            database[name].insert_many(dump[name])


@pytest.fixture
def put_back(
    unprojected: ApiClient, relay: Relay, postgres: psycopg.Connection, read_models: Database[Document]
) -> dict[str, str]:
    """The tokens of three writes that were read by this very API process and that MongoDB has lost since."""
    unprojected.post("/users", json=ADA)
    drain(relay)
    shake_hands(postgres, read_models)
    dump = {name: list(read_models[name].find()) for name in read_models.list_collection_names()}
    shake_hands(postgres, read_models)
    tokens = {
        "/users/2": unprojected.post("/users", json=ADA | {"email": "eve@example.org"}, headers=KEY).headers[TOKEN],
        "/users/1": unprojected.put("/users/1", json={"name": "Ada King"}).headers[TOKEN],
        "/items?tag=cheese": unprojected.post("/items", json=item_body(1)).headers[TOKEN],
    }
    drain(relay)
    assert [unprojected.get(path, headers={TOKEN: token}).status_code for path, token in tokens.items()] == [200] * 3
    restore(read_models, dump)
    return tokens


def test_reads_with_tokens_are_sent_away_whatever_they_would_have_been_told(
    put_back: dict[str, str], unprojected: ApiClient
) -> None:
    assert unprojected.get("/users/2").status_code == 404
    assert unprojected.get("/users/1").json()["name"] == "Ada"
    for path, token in put_back.items():
        conditional = {"If-Match": '"1"'} if path == "/users/1" else {}
        answer = unprojected.get(path, headers={TOKEN: token, **conditional})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:kata:problem:projection-pending"), path


@pytest.mark.usefixtures("put_back")
def test_a_request_that_is_repeated_is_not_told_that_its_write_can_be_read(unprojected: ApiClient) -> None:
    repeated = unprojected.post("/users", json=ADA | {"email": "eve@example.org"}, headers=KEY)
    assert (repeated.status_code, repeated.headers.get("Projection-Status")) == (202, "pending")


@pytest.mark.usefixtures("put_back")
def test_a_write_whose_notification_was_lost_is_not_told_that_it_can_be_read(
    unprojected: ApiClient, postgres: psycopg.Connection
) -> None:
    settlements = unprojected.app.state.settlements
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(unprojected.put, "/users/1", json={}, headers={"Prefer": "wait=3"})
        wait_until(lambda: settlements.waiting == 1, "it waits")
        postgres.execute("DELETE FROM outbox")
        assert (waiting.result().status_code, waiting.result().headers.get("Projection-Status")) == (202, "pending")


def test_ready_says_which_database_went_back(put_back: dict[str, str], unprojected: ApiClient) -> None:
    ready = unprojected.get("/ready").json()
    assert ready["status"] == "degraded"
    assert ready["read_models"].startswith("MongoDB was restored or has lost what it had acknowledged")


def test_those_who_ask_at_once_look_together(api_settings: ApiSettings, relay: Relay) -> None:
    relay.run_once()
    looks: list[str] = []

    async def scenario() -> None:
        pool = Pool(api_settings, "test", size=20, timeout=20)
        async with create_async_client(api_settings, "test") as client:
            provenance = Provenance(pool, async_read_model_database(client, api_settings))
            another = AsOf(uuid4(), 0)
            with before_each_statement(looks.append):
                assert not any(await asyncio.gather(*(provenance.holds(another) for _ in range(20))))
        await pool.close()

    asyncio.run(scenario())
    assert 1 <= looks.count(READ_INSTALLATION) <= 2
