"""A write waits until it can be read, as long as the client prefers, and the answer is the truth."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.consistency.settlements import Settlements, Visibility
from api.consistency.token import Token
from api.settings import ApiSettings
from projector.process import Projector
from projector.relay import Relay
from tests.fixtures.clients import ApiClient, item_body
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.waiting import wait_until

WAITERS = 100


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads of clients."""
    with ThreadPoolExecutor(WAITERS) as pool:
        yield pool


def waiting(api: ApiClient) -> int:
    """Return how many clients wait in the service."""
    settlements: Settlements = api.app.state.settlements
    return settlements.waiting


def post_user(api: ApiClient, number: int = 1, **headers: str) -> httpx.Response:
    """Send POST /users."""
    body = {"name": f"user {number}", "email": f"user{number}@example.org"}
    return api.post("/users", json=body, headers=headers)


def backends(postgres: psycopg.Connection, condition: str = "true") -> int:
    """Return how many connections APIs hold to this test's database."""
    row = postgres.execute(
        "SELECT count(*) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND application_name LIKE 'kata-api%' AND {condition}"
    ).fetchone()
    assert row
    return int(row[0])


# Strong by default


def test_the_read_right_after_a_write_sees_it(running_projector: Projector, api: ApiClient) -> None:
    user = api.post("/users", json={"name": "Ada", "email": "ada@example.org"})
    assert user.status_code == 201
    assert api.get(user.headers["location"]).json() == user.json()
    item = api.post("/items", json=item_body(user.json()["id"]))
    assert item.status_code == 201
    assert api.get(item.headers["location"]).json() == item.json()
    changed = api.put("/items/1", json={"quality": 7, "tags": ["b", "a"]})
    assert changed.status_code == 200
    assert api.get("/items/1").json() == changed.json()
    assert api.delete("/items/1").status_code == 200
    assert api.get("/items/1").status_code == 404
    assert api.get("/items").json() == []
    assert not {"projection-status", "preference-applied", "retry-after"} & {*changed.headers, *user.headers}


def test_everybody_reads_his_own_writes_among_many(
    running_projector: Projector, api: ApiClient, pool: ThreadPoolExecutor
) -> None:
    def client(number: int) -> None:
        user = post_user(api, number)
        assert user.status_code == 201
        assert api.get(f"/users/{user.json()['id']}").json() == user.json()
        item = api.post("/items", json=item_body(user.json()["id"], tags=["shared", f"own {number}"]))
        assert item.status_code == 201
        for quality in range(3):
            changed = api.put(f"/items/{item.json()['id']}", json={"quality": quality})
            assert changed.status_code == 200
            assert api.get(f"/items/{item.json()['id']}").json() == changed.json()
        assert len(api.get("/items", params={"tag": f"own {number}"}).json()) == 1

    list(pool.map(client, range(20)))


def test_a_renamed_owner_is_seen_in_his_items_right_after(running_projector: Projector, api: ApiClient) -> None:
    user_id = api.new_user()["id"]
    item_id = api.new_item(user_id)["id"]
    assert api.put(f"/users/{user_id}", json={"name": "Ada King"}).status_code == 200
    assert api.get(f"/items/{item_id}").json()["owner"]["name"] == "Ada King"


# As the client prefers


NOT_WAITING = [
    (["respond-async"], "respond-async"),
    (["wait=0"], "wait=0"),
    (["respond-async, wait=0"], "respond-async, wait=0"),
    (["respond-async", "wait=0"], "respond-async, wait=0"),
    (["wait=0, wait=30"], "wait=0"),
    (["Respond-Async;x=y"], "respond-async"),
    (["handling=lenient, respond-async, return=minimal"], "respond-async"),
]


def test_who_prefers_not_to_wait_is_answered_after_the_commit(
    api: ApiClient, relay: Relay, postgres: psycopg.Connection
) -> None:
    answers: list[httpx.Response] = []
    for number, (prefer, applied) in enumerate(NOT_WAITING):
        body = {"name": "Ada", "email": f"ada{number}@example.org"}
        answer = api.post("/users", json=body, headers=httpx.Headers([("Prefer", value) for value in prefer]))
        assert answer.status_code == 202
        assert answer.headers["projection-status"] == "pending"
        assert answer.headers["preference-applied"] == applied
        assert int(answer.headers["retry-after"]) >= 1
        assert api.get(answer.headers["location"]).status_code == 404
        answers.append(answer)
    assert set(postgres.execute("SELECT awaited FROM outbox").fetchall()) == {(False,)}
    drain(relay)
    assert all(api.get(answer.headers["location"]).json() == answer.json() for answer in answers)


MALFORMED = ["", "wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "=", "respond-async=no", ",;,", '"', "wait=5x, ="]


def test_a_malformed_preference_is_ignored(running_projector: Projector, api: ApiClient) -> None:
    for number, prefer in enumerate(MALFORMED):
        answer = post_user(api, number, Prefer=prefer)
        assert answer.status_code == 201
        assert "preference-applied" not in answer.headers


def test_who_prefers_to_wait_longer_or_shorter_does(running_projector: Projector, api: ApiClient) -> None:
    for number, (prefer, applied) in enumerate({"wait=10": "wait=10", "WAIT = 99": "wait=30"}.items()):
        answer = post_user(api, number, Prefer=prefer)
        assert (answer.status_code, answer.headers["preference-applied"]) == (201, applied)
    both = post_user(api, 9, Prefer="respond-async, wait=10")
    assert (both.status_code, both.headers["preference-applied"]) == (201, "respond-async, wait=10")


def test_a_write_not_visible_in_time_is_accepted_with_the_same_body(
    make_api: Callable[..., ApiClient], relay: Relay
) -> None:
    api = make_api(default_wait_seconds=0.05)
    user_id = api.new_user()["id"]
    api.new_item(user_id)
    drain(relay)
    body = item_body(user_id, description="new", tags=["x", "y"])
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/items", body),
        ("PUT", "/items/1", body),
        ("DELETE", "/items/1", None),
    ]
    for method, path, content in requests:
        answer = api.request(method, path, json=content)
        assert answer.status_code == 202
        assert answer.headers["projection-status"] == "pending"
        assert int(answer.headers["retry-after"]) >= 1
        drain(relay)
        if method == "DELETE":
            assert answer.json() == {"detail": "Item with id 1 has been deleted"}
            assert api.get("/items/1").status_code == 404
        else:
            assert api.get(f"/items/{answer.json()['id']}").json() == answer.json()


# Failed


def test_a_dead_letter_is_said_at_once(
    running_projector: Projector, make_api: Callable[..., ApiClient], postgres: psycopg.Connection
) -> None:
    api = make_api(default_wait_seconds=30)
    postgres.execute("""
        CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.payload = '{}'; RETURN NEW; END $$;
        CREATE TRIGGER poison BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION poison();
    """)
    answer = post_user(api)
    assert answer.status_code == 202
    assert answer.headers["projection-status"] == "failed"
    assert "retry-after" not in answer.headers
    assert answer.json()["name"] == "user 1"
    assert answer.elapsed.total_seconds() < 15


SETTLE = "DELETE FROM outbox WHERE aggregate_id = {}"
BURY = """
    WITH gone AS (DELETE FROM outbox WHERE aggregate_id = {{}} RETURNING *)
    INSERT INTO outbox_failures SELECT id, aggregate_type, aggregate_id, aggregate_version, event_type, payload,
        trace_context, created_at, '{}', 1, 'why', now(), {} FROM gone
"""


def test_what_a_lost_notification_would_have_said_is_found(
    api: ApiClient, relay: Relay, postgres: psycopg.Connection, pool: ThreadPoolExecutor
) -> None:
    relay.run_once()  # the read models are this installation's
    happens = [SETTLE, BURY.format("dead", "NULL"), BURY.format("discarded", "NULL"), BURY.format("retrying", "now()")]
    answers = [pool.submit(post_user, api, number, Prefer="wait=2") for number in range(len(happens))]
    wait_until(lambda: waiting(api) == len(happens), "all of them wait")
    with postgres.transaction():
        for user_id, statement in enumerate(happens, start=1):
            postgres.execute(statement.format(user_id))
    found = {answer.result().json()["id"]: answer.result() for answer in answers}
    assert [found[user_id].status_code for user_id in (1, 2, 3, 4)] == [201, 202, 202, 202]
    said = [found[user_id].headers.get("projection-status") for user_id in (1, 2, 3, 4)]
    assert said == [None, "failed", "failed", "pending"]


# One connection, however many wait


def test_a_hundred_concurrent_waiting_writes_cost_one_listen_connection_not_a_hundred_polls(
    make_api: Callable[..., ApiClient],
    relay: Relay,
    postgres: psycopg.Connection,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = make_api(database_pool_size=5, database_pool_timeout_seconds=30)
    statements: list[tuple[str, Any]] = []
    execute = psycopg.AsyncCursor.execute

    async def noted(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        statements.append((str(query), params))
        return await execute(self, query, params, **options)

    answers = [pool.submit(post_user, api, number, Prefer="wait=30") for number in range(WAITERS)]
    wait_until(lambda: waiting(api) == WAITERS, "all of them wait")
    monkeypatch.setattr(psycopg.AsyncCursor, "execute", noted)

    def checks() -> list[int]:
        return [len(params["ids"]) for query, params in list(statements) if "outbox_failures" in query]

    wait_until(lambda: len(checks()) >= 2, "it has checked twice")
    # All of them are asked about in one statement a second, and nothing else is but for the last wakes.
    assert checks() == [WAITERS] * len(checks())
    assert all("NOTIFY" in query for query, _ in statements if "outbox_failures" not in query)
    assert backends(postgres, "query LIKE 'LISTEN%'") == 1
    assert backends(postgres) <= 5 + 3  # the pool; listening, checking and waking
    drain(relay)
    assert {answer.result().status_code for answer in answers} == {201}
    assert waiting(api) == 0


def test_a_waiter_armed_after_its_notification_came_is_answered_at_once(
    api_settings: ApiSettings, postgres: psycopg.Connection
) -> None:
    history = uuid4()

    async def scenario() -> None:
        settlements, begun = Settlements(api_settings, "test"), time.monotonic()

        async def waited(message_id: int, seconds: float = 3600, since: float = begun) -> Visibility:
            return await settlements.wait(Token(history, message_id), seconds, since=since)

        listening = asyncio.create_task(settlements.listen())
        while await waited(9, 0) is Visibility.PENDING:  # until the listener is there and has heard it
            postgres.execute(
                "SELECT pg_notify('outbox_settled', %(history)s || ' rubbish,,-1,7,8'),"
                " pg_notify('outbox_dead', %(history)s || ' 9')",
                {"history": str(history)},
            )
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            assert [await waited(message_id) for message_id in (7, 8)] == [Visibility.VISIBLE] * 2
            assert await waited(9) is Visibility.FAILED
        assert await waited(10, 0.01) is Visibility.PENDING
        # An id that is issued again, by a PostgreSQL that was put back in time: that notification was not for it.
        assert await waited(7, 0.01, since=time.monotonic()) is Visibility.PENDING
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening

    asyncio.run(scenario())


def test_a_notification_of_no_sense_does_not_end_the_listening(
    running_projector: Projector, make_api: Callable[..., ApiClient], postgres: psycopg.Connection
) -> None:
    api = make_api(default_wait_seconds=30)
    for payload in ("", "rubbish", "999,,x", f"{uuid4()} 999,,x", f"{'-' * 36} 1", "é", "9" * 5000):
        postgres.execute("SELECT pg_notify('outbox_settled', %s), pg_notify('outbox_dead', %s)", (payload, payload))
    assert post_user(api).status_code == 201
    assert backends(postgres, "query LIKE 'LISTEN%'") == 1


def test_a_waiting_client_does_not_queue_behind_a_bulk_backlog(
    api: ApiClient, outbox: Outbox, postgres: psycopg.Connection, request: pytest.FixtureRequest
) -> None:
    outbox.user(1_000_000)
    postgres.execute("""
        INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload)
        SELECT aggregate_type, aggregate_id + n, 1, event_type, payload || jsonb_build_object('id', aggregate_id + n)
        FROM outbox, generate_series(1, 30000) AS n
    """)
    request.getfixturevalue("running_projector")
    assert post_user(api, Prefer="wait=30").status_code == 201
    assert len(outbox.ids()) > 0
    assert api.get("/users/1").status_code == 200


# What breaks meanwhile


@pytest.mark.parametrize("which", ["query LIKE 'LISTEN%'", "true"])
def test_waiting_survives_the_loss_of_connections(
    running_projector: Projector, make_api: Callable[..., ApiClient], postgres: psycopg.Connection, which: str
) -> None:
    api = make_api(default_wait_seconds=30)
    assert post_user(api, 0).status_code == 201
    for number in (1, 2):
        postgres.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname = current_database() AND application_name LIKE 'kata-api%' AND {which}"
        )
        assert post_user(api, number).status_code == 201
    wait_until(lambda: backends(postgres, "query LIKE 'LISTEN%'") == 1, "it listens again")


def test_a_client_that_goes_away_leaves_no_waiter_behind(api: ApiClient) -> None:
    body = json.dumps({"name": "Ada", "email": "ada@example.org"})
    request = (
        "POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: wait=1\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        connection.sendall(request.encode())
        wait_until(lambda: waiting(api) == 1, "the write waits")
    wait_until(lambda: waiting(api) == 0, "its time is over")
