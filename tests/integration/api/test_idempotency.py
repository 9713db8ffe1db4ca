"""Idempotency-Key: a POST that comes twice is done once, and answered the same."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest

from projector.process import Projector
from projector.relay import Relay
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.clients import ApiClient, item_body, row_counts
from tests.fixtures.relays import drain
from tests.fixtures.waiting import wait_until
from tests.integration.api.conftest import Untouched

ADA = {"name": "Ada", "email": "ada@example.org"}
BOB = {"name": "Bob", "email": "bob@example.org"}
KEY = {"Idempotency-Key": '"k"'}
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
EXPIRE = "UPDATE idempotency_keys SET created_at = clock_timestamp() - interval '24 hours' - %s::interval"


def keys(postgres: psycopg.Connection) -> int:
    """Return how many results are stored."""
    row = postgres.execute("SELECT count(*) FROM idempotency_keys").fetchone()
    assert row
    return int(row[0])


def result(answer: httpx.Response) -> tuple[Any, ...]:
    """Return what a repeated request must answer again."""
    assert answer.status_code in {201, 202}, answer.text
    return answer.json(), *(answer.headers[name] for name in ("location", "etag", "consistency-token"))


def assert_problem(answer: httpx.Response, status: int, kind: str) -> None:
    """Assert that this problem was answered."""
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:kata:problem:{kind}"), answer.text


def test_a_repeated_request_is_done_once_and_answered_the_same(
    unprojected: ApiClient, postgres: psycopg.Connection
) -> None:
    for path, body in (("/users", ADA), ("/items", item_body(1, tags=["b", "a"], description="x"))):
        first = unprojected.post(path, json=body, headers=KEY)
        before = row_counts(postgres)
        for _ in range(3):
            assert result(unprojected.post(path, json=body, headers=KEY)) == result(first)
        assert row_counts(postgres) == before
    assert row_counts(postgres)["outbox"] == 2
    assert keys(postgres) == 2


def test_without_a_key_nothing_is_stored_and_every_request_counts(
    unprojected: ApiClient, postgres: psycopg.Connection
) -> None:
    unprojected.new_user()
    assert unprojected.new_item(1)["id"] != unprojected.new_item(1)["id"]
    assert [unprojected.put("/users/1", json={}, headers=KEY).json()["version"] for _ in range(2)] == [2, 3]
    assert keys(postgres) == 0


def test_another_process_answers_the_same(make_api: Callable[..., ApiClient]) -> None:
    first, second = make_api(default_wait_seconds=0), make_api(default_wait_seconds=0)
    assert result(first.post("/users", json=ADA, headers=KEY)) == result(second.post("/users", json=ADA, headers=KEY))


def test_a_key_counts_per_route_with_or_without_quotes(unprojected: ApiClient, postgres: psycopg.Connection) -> None:
    user = unprojected.post("/users", json=ADA, headers=KEY)
    item = unprojected.post("/items", json=item_body(1), headers=KEY)
    bare = {"Idempotency-Key": "k"}
    assert result(unprojected.post("/users", json=ADA, headers=bare)) == result(user)
    assert result(unprojected.post("/items", json=item_body(1), headers=bare)) == result(item)
    assert unprojected.post("/users", json=BOB, headers={"Idempotency-Key": "K"}).json()["id"] == 2


def test_the_same_key_with_another_body_is_refused(unprojected: ApiClient, postgres: psycopg.Connection) -> None:
    first = unprojected.post("/users", json=ADA, headers=KEY)
    before = row_counts(postgres)
    assert_problem(unprojected.post("/users", json=BOB, headers=KEY), 422, "idempotency-key-reused")
    assert_problem(unprojected.post("/users", json=ADA | {"x": 1}, headers=KEY), 422, "idempotency-key-reused")
    assert row_counts(postgres) == before
    spaced = '{ "email":\n"ada@example.org", "name": "\\u0041da" }'
    again = unprojected.post("/users", content=spaced, headers=KEY | {"Content-Type": "application/json"})
    assert result(again) == result(first)


# Waiting


def test_201_or_202_is_decided_by_what_the_repetition_itself_sees(
    api: ApiClient, relay: Relay, postgres: psycopg.Connection
) -> None:
    def post(prefer: str) -> tuple[int, str | None, str | None]:
        answer = api.post("/users", json=ADA, headers=KEY | {"Prefer": prefer})
        headers = answer.headers
        return answer.status_code, headers.get("projection-status"), headers.get("preference-applied")

    assert post("respond-async") == (202, "pending", "respond-async")
    assert post("wait=0") == (202, "pending", "wait=0")
    awaited = "SELECT bool_and(awaited) FROM outbox"
    assert postgres.execute(awaited).fetchone() == (False,)
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(post, "wait=30")
        wait_until(lambda: postgres.execute(awaited).fetchone() == (True,), "the message is awaited from now on")
        drain(relay)
        assert waits.result(20) == (201, None, "wait=30")
    assert post("respond-async") == (201, None, "respond-async")


def test_a_settled_result_is_answered_at_once_by_a_process_that_never_heard_of_it(
    make_api: Callable[..., ApiClient], relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_api().post("/users", json=ADA, headers=KEY | {"Prefer": "respond-async"})
    drain(relay)
    monkeypatch.setattr("api.consistency.settlements.CHECK_SECONDS", 3600.0)
    again = make_api().post("/users", json=ADA, headers=KEY)
    assert (first.status_code, again.status_code) == (202, 201)
    assert result(first) == result(again)


def test_a_result_whose_message_is_a_dead_letter_says_so_again(
    api: ApiClient, relay: Relay, postgres: psycopg.Connection
) -> None:
    first = api.post("/users", json=ADA, headers=KEY | {"Prefer": "respond-async"})
    postgres.execute("UPDATE outbox SET payload = '{}'")
    drain(relay)
    again = api.post("/users", json=ADA, headers=KEY)
    assert (again.status_code, again.headers["projection-status"]) == (202, "failed")
    assert result(first) == result(again)


def test_the_original_result_is_answered_after_the_aggregate_was_changed_and_deleted(
    running_projector: Projector, api: ApiClient
) -> None:
    first = api.post("/users", json=ADA, headers=KEY)
    api.put("/users/1", json={"name": "Ada King"})
    assert result(api.post("/users", json=ADA, headers=KEY)) == result(first)
    api.delete("/users/1")
    again = api.post("/users", json=ADA, headers=KEY)
    assert (again.status_code, result(again)) == (201, result(first))
    assert api.get("/users").json() == []


# What is not a result


def test_failures_are_not_stored_so_the_key_may_be_used_again(
    unprojected: ApiClient, postgres: psycopg.Connection
) -> None:
    assert_problem(unprojected.post("/items", json=item_body(1), headers=KEY), 404, "not-found")
    unprojected.new_user()
    assert unprojected.post("/items", json=item_body(1, quality=7), headers=KEY).json()["quality"] == 7
    assert_problem(unprojected.post("/users", json=ADA, headers=KEY), 409, "email-taken")
    assert_problem(unprojected.post("/users", json={}, headers=KEY), 422, "invalid-request")
    assert unprojected.post("/users", json=BOB, headers=KEY).status_code == 202
    assert keys(postgres) == 2


@pytest.mark.parametrize("when", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_command_that_is_rolled_back_leaves_no_result(
    unprojected: ApiClient, postgres: psycopg.Connection, when: str
) -> None:
    die = "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL;"
    postgres.execute(
        f"""
        CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {die} END $$;
        CREATE CONSTRAINT TRIGGER die AFTER INSERT ON idempotency_keys {when} FOR EACH ROW EXECUTE FUNCTION die();
    """.encode()
    )
    assert unprojected.post("/users", json=ADA, headers=KEY).status_code == 503
    assert keys(postgres) == row_counts(postgres)["users"] == row_counts(postgres)["outbox"] == 0
    postgres.execute("DROP TRIGGER die ON idempotency_keys")
    assert unprojected.post("/users", json=ADA, headers=KEY).status_code == 202


@pytest.mark.parametrize("key", ["", '""', "a b", '"a', "x" * 256, "é".encode(), '"é"'.encode(), "a,b"])
@pytest.mark.parametrize("body", [ADA, {}])
def test_a_key_that_cannot_be_read_is_refused_by_name(
    untouched: Untouched, body: dict[str, str], key: str | bytes
) -> None:
    before = untouched.counts()
    answer = untouched.api.post("/users", json=body, headers=[("Idempotency-Key", key)])
    assert_problem(answer, 400, "bad-header")
    assert answer.json()["errors"][0]["pointer"] == "Idempotency-Key"
    assert untouched.counts() == before


def test_two_keys_are_none(untouched: Untouched) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert_problem(untouched.api.post("/users", json=ADA, headers=headers), 400, "bad-header")


def test_a_key_changes_nothing_for_a_body_that_is_refused(untouched: Untouched) -> None:
    for content in (b"", b"null", b"[]", b"{", b'{"x": 1e999}'):
        sent = {"content": content, "headers": {"Content-Type": "application/json"}}
        without = untouched.api.post("/users", **sent)
        sent["headers"] |= KEY
        assert untouched.api.post("/users", **sent).status_code == without.status_code


def test_the_document_says_that_every_post_takes_a_key(untouched: Untouched) -> None:
    paths = untouched.api.get("/openapi.json").json()["paths"]
    takes = {
        (method, path): "Idempotency-Key" in {parameter["name"] for parameter in operation.get("parameters", ())}
        for path, methods in paths.items()
        for method, operation in methods.items()
    }
    assert {method for (method, _), key in takes.items() if key} == {"post"}
    assert all(key for (method, _), key in takes.items() if method == "post")
    assert all({"409", "422"} <= set(paths[path]["post"]["responses"]) for method, path in takes if method == "post")


# At the same time


def test_one_still_in_flight_is_not_waited_for(
    unprojected: ApiClient, postgres: psycopg.Connection, database_url: str
) -> None:
    unprojected.new_user()
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT FROM users WHERE id = 1 FOR UPDATE")
        first = pool.submit(unprojected.post, "/items", json=item_body(1), headers=KEY)
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (1,), "the first waits inside its transaction")
        # Locks of two numbers: never those of the read models or of an import, which are one.
        locks = "SELECT objsubid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        assert postgres.execute(locks).fetchall() == [(2,)]
        for body in (item_body(1), item_body(1, quality=9)):
            refused = unprojected.post("/items", json=body, headers=KEY)
            assert_problem(refused, 409, "idempotency-key-in-flight")
            assert refused.headers["retry-after"] == "1"
        assert unprojected.post("/users", json=BOB, headers=KEY).status_code == 202  # a key of its own
        other.rollback()
    assert result(unprojected.post("/items", json=item_body(1), headers=KEY)) == result(first.result())
    assert row_counts(postgres)["items"] == 1


def test_twenty_equal_requests_at_once_are_done_once(
    running_projector: Projector, make_api: Callable[..., ApiClient], postgres: psycopg.Connection
) -> None:
    apis = make_api(), make_api()
    apis[0].new_user()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: apis[n % 2].post("/items", json=item_body(1), headers=KEY), range(20)))
    done = [answer for answer in answers if answer.status_code != 409]
    assert done
    assert {answer.status_code for answer in answers} <= {201, 202, 409}
    assert all(result(answer) == result(done[0]) for answer in done)
    assert row_counts(postgres)["items"] == keys(postgres) == 1
    assert postgres.execute("SELECT last_value FROM outbox_id_seq").fetchone() == (2,)


# Time


def test_after_24_hours_a_key_counts_as_new_whether_it_was_purged_or_not(
    unprojected: ApiClient, postgres: psycopg.Connection
) -> None:
    unprojected.new_user()
    first = unprojected.post("/items", json=item_body(1), headers=KEY)
    postgres.execute(EXPIRE, ("-1 minute",))
    assert result(unprojected.post("/items", json=item_body(1), headers=KEY)) == result(first)
    postgres.execute(EXPIRE, ("1 second",))
    second = unprojected.post("/items", json=item_body(1, quality=9), headers=KEY)
    assert (second.status_code, second.json()["id"]) == (202, 2)
    assert result(unprojected.post("/items", json=item_body(1, quality=9), headers=KEY)) == result(second)
    assert_problem(unprojected.post("/items", json=item_body(1), headers=KEY), 422, "idempotency-key-reused")
    assert keys(postgres) == 1


# The process


def test_a_process_killed_between_commit_and_answer_leaves_a_result_for_the_repetition(
    start_api: Callable[[], ApiProcess], postgres: psycopg.Connection
) -> None:
    # No projector runs, so the answer waits after the commit.
    api = start_api()
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(api.client.post, "/users", json=ADA, headers=KEY | {"Prefer": "wait=30"})
        wait_until(lambda: row_counts(postgres)["users"] == 1, "the command is committed")
        assert not lost.done()
        api.process.kill()
        assert isinstance(lost.exception(20), httpx.TransportError)
    assert api.process.wait(20) != 0

    other = start_api()
    again = other.client.post("/users", json=ADA, headers=KEY | {"Prefer": "wait=0"})
    assert again.status_code == 202
    assert again.json()["id"] == 1
    assert row_counts(postgres)["users"] == row_counts(postgres)["outbox"] == keys(postgres) == 1
    # Without the key it would be somebody else's address.
    assert_problem(other.client.post("/users", json=ADA), 409, "email-taken")
