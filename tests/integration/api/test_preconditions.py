"""ETag, If-None-Match and If-Match (RFC 9110): no client that sends If-Match loses an update."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import psycopg
import pytest

from projector.process import Projector
from projector.relay import Relay
from tests.fixtures.clients import ApiClient, item_body
from tests.fixtures.relays import drain
from tests.fixtures.statements import before_each_statement
from tests.fixtures.waiting import wait_until
from tests.integration.api.conftest import Untouched

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture
def ids(unprojected: ApiClient) -> tuple[int, int]:
    """A user and an item of his."""
    user_id = unprojected.new_user()["id"]
    return user_id, unprojected.new_item(user_id)["id"]


def assert_refused(answer: httpx.Response, etag: str) -> None:
    """Assert that the precondition failed, and that the answer tells the current tag."""
    assert answer.status_code == 412, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:kata:problem:precondition-failed"
    assert answer.headers["etag"] == etag


# What carries a tag


def test_reads_and_writes_of_one_resource_answer_the_same_tag(running_projector: Projector, api: ApiClient) -> None:
    created = api.post("/users", json={"name": "Ada", "email": "ada@example.org"})
    assert created.headers["etag"] == api.get("/users/1").headers["etag"] == '"1"'
    changed = api.put("/users/1", json={"name": "Ada King"})
    assert changed.headers["etag"] == api.get("/users/1").headers["etag"] == '"2"'
    created = api.post("/items", json=item_body(1))
    assert created.headers["etag"] == api.get("/items/1").headers["etag"] == '"1-2"'
    changed = api.put("/items/1", json={"quality": 1})
    assert changed.headers["etag"] == api.get("/items/1").headers["etag"] == '"2-2"'
    head = api.head("/items/1")
    assert (head.status_code, head.headers["etag"]) == (200, '"2-2"')
    for path in ("/users", "/items", "/tags", "/users/9"):
        assert "etag" not in api.get(path).headers
    assert "etag" not in api.delete("/items/1").headers


def test_a_write_that_is_not_visible_yet_answers_its_tag(unprojected: ApiClient, ids: tuple[int, int]) -> None:
    answer = unprojected.put("/items/1", json={})
    assert (answer.status_code, answer.headers["etag"]) == (202, '"2-1"')


def test_an_items_tag_changes_when_its_owner_does(unprojected: ApiClient, relay: Relay, ids: tuple[int, int]) -> None:
    drain(relay)
    before = unprojected.get("/items/1")
    unprojected.put("/users/1", json={"name": "Ada King"})
    drain(relay)
    after = unprojected.get("/items/1", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.json()["owner"]["name"] == "Ada King"
    assert after.json()["version"] == before.json()["version"]
    assert after.headers["etag"] != before.headers["etag"]
    assert "version" not in after.json()["owner"]
    assert_refused(unprojected.put("/items/1", json={}, headers={"If-Match": before.headers["etag"]}), '"1-2"')
    assert unprojected.put("/items/1", json={}, headers={"If-Match": after.headers["etag"]}).status_code == 202


def test_an_item_that_changes_hands_gets_a_tag_it_never_had(unprojected: ApiClient, ids: tuple[int, int]) -> None:
    bob = unprojected.new_user("Bob", "bob@example.org")["id"]
    tags = [unprojected.put("/items/1", json={"owner_id": owner}).headers["etag"] for owner in (bob, 1, bob)]
    assert len(set(tags)) == len(tags)


# Reads


def test_if_none_match_spares_a_client_what_it_has(unprojected: ApiClient, relay: Relay, ids: tuple[int, int]) -> None:
    drain(relay)
    for if_none_match in ('"1-1"', 'W/"1-1"', '"x", "1-1"', "*"):
        for method in ("GET", "HEAD"):
            answer = unprojected.request(method, "/items/1", headers={"If-None-Match": if_none_match})
            assert (answer.status_code, answer.headers["etag"], answer.content) == (304, '"1-1"', b"")
            assert "content-type" not in answer.headers
    for if_none_match in ('"2-1"', '"1"', "", 'W/"x"'):
        answer = unprojected.get("/items/1", headers={"If-None-Match": if_none_match})
        assert (answer.status_code, answer.headers["etag"], answer.json()["id"]) == (200, '"1-1"', 1)


def test_if_match_on_a_read_is_evaluated_first(unprojected: ApiClient, relay: Relay, ids: tuple[int, int]) -> None:
    drain(relay)
    assert_refused(unprojected.get("/users/1", headers={"If-Match": '"2"', "If-None-Match": '"1"'}), '"1"')
    assert unprojected.get("/users/1", headers={"If-Match": '"1"'}).status_code == 200
    assert unprojected.get("/users/1", headers={"If-Match": "*", "If-None-Match": '"1"'}).status_code == 304


def test_a_read_with_a_token_never_answers_304_for_what_the_token_has_superseded(
    unprojected: ApiClient, relay: Relay, ids: tuple[int, int]
) -> None:
    drain(relay)
    token = unprojected.put("/users/1", json={"name": "A"}).headers["consistency-token"]
    headers = {"Consistency-Token": token, "If-None-Match": '"1"', "Prefer": "wait=0"}
    assert unprojected.get("/users/1", headers={"If-None-Match": '"1"'}).status_code == 304
    assert unprojected.get("/users/1", headers=headers).status_code == 503
    drain(relay)
    assert unprojected.get("/users/1", headers=headers).json()["name"] == "A"
    assert unprojected.get("/users/1", headers=headers | {"If-None-Match": '"2"'}).status_code == 304


# Writes


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(("path", "etag"), [("/users/2", '"1"'), ("/items/1", '"1-1"')])
@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": '"2"'}, {"If-Match": '"1", "1-1"', "If-None-Match": '"1", "1-1"'}, {"If-Match": 'W/"1", W/"1-1"'},
        {"If-Match": '"1-2"'}, {"If-Match": '"never"'}, {"If-None-Match": "*"}, {"If-None-Match": 'W/"1", W/"1-1"'},
    ],
    ids=str,
)  # fmt: skip
def test_a_write_whose_precondition_fails_changes_nothing(
    untouched: Untouched, method: str, path: str, etag: str, headers: dict[str, str]
) -> None:
    before = untouched.counts()
    body = {"name": "no"} if method == "PUT" else None
    assert_refused(untouched.api.request(method, path, json=body, headers=headers), etag)
    assert untouched.counts() == before


@pytest.mark.parametrize("condition", ['"{}"', "*", '"x", "{}"'])
def test_a_write_whose_precondition_holds_is_done(unprojected: ApiClient, ids: tuple[int, int], condition: str) -> None:
    for path, etags in (("/items/1", ("1-1", "2-1")), ("/users/1", ("1", "2"))):
        headers = [{"If-Match": condition.format(etag), "If-None-Match": '"never"'} for etag in etags]
        assert unprojected.put(path, json={}, headers=headers[0]).status_code == 202
        assert unprojected.delete(path, headers=headers[1]).status_code == 202


def test_tags_may_come_in_several_lines(unprojected: ApiClient, ids: tuple[int, int]) -> None:
    lines = [("If-Match", '"7"'), ("If-Match", '"1"')]
    assert unprojected.put("/users/1", json={}, headers=lines).status_code == 202


@pytest.mark.parametrize("if_match", ['"1"', "*"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_unknown_id_is_not_found_whatever_is_expected_of_it(
    untouched: Untouched, method: str, if_match: str
) -> None:
    for path in ("/users/99", "/items/99"):
        body = {} if method == "PUT" else None
        answer = untouched.api.request(method, path, json=body, headers={"If-Match": if_match, "If-None-Match": "*"})
        assert answer.status_code == 404
        assert "etag" not in answer.headers


@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["1", '"1', '*, "1"', 'w/"1"', '"1" "2"'])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_header_that_cannot_be_read_is_refused_by_name(
    untouched: Untouched, method: str, name: str, value: str | bytes
) -> None:
    before = untouched.counts()
    body = {} if method == "PUT" else None
    answer = untouched.api.request(method, "/users/1", json=body, headers=[(name, value)])
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:kata:problem:bad-header")
    assert answer.json()["errors"][0]["pointer"] == name
    assert untouched.counts() == before


# Races


@pytest.mark.parametrize("path", ["/users/1", "/items/1"])
def test_of_two_racing_puts_with_the_same_tag_one_is_refused(
    unprojected: ApiClient, postgres: psycopg.Connection, database_url: str, ids: tuple[int, int], path: str
) -> None:
    etag = unprojected.put(path, json={}).headers["etag"]
    table = path.split("/")[1]
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        # Both have passed everything that needs no lock when they meet this one.
        other.execute(f"SELECT FROM {table} WHERE id = 1 FOR UPDATE".encode())
        puts = [
            pool.submit(unprojected.put, path, json={"name": name}, headers={"If-Match": etag}) for name in ("a", "b")
        ]
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (2,), "both wait for the row")
        other.rollback()
    won, lost = sorted((put.result() for put in puts), key=lambda answer: answer.status_code)
    assert won.status_code == 202
    assert_refused(lost, won.headers["etag"])


def test_counting_by_reading_and_writing_back_loses_nothing(
    unprojected: ApiClient, postgres: psycopg.Connection, ids: tuple[int, int]
) -> None:
    """Four clients add one, eight times each, with nothing but If-Match to keep them apart."""

    def add_one(_: int) -> None:
        answer = unprojected.put("/items/1", json={})
        while answer.status_code != 200:
            changed = {"quality": answer.json()["quality"] + 1}
            written = unprojected.put("/items/1", json=changed, headers={"If-Match": answer.headers["etag"]})
            if written.status_code == 202:
                return
            assert written.status_code == 412
            answer = unprojected.put("/items/1", json={})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(32)))
    assert postgres.execute("SELECT quality FROM items WHERE id = 1").fetchone() == (32,)


def test_a_rename_that_was_committed_is_seen_by_a_put_that_waited_for_its_row(
    unprojected: ApiClient, postgres: psycopg.Connection, database_url: str, ids: tuple[int, int]
) -> None:
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT FROM items WHERE id = 1 FOR UPDATE")
        put = pool.submit(unprojected.put, "/items/1", json={}, headers={"If-Match": '"1-1"'})
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (1,), "the change waits for the row")
        assert unprojected.put("/users/1", json={"name": "Ada King"}).status_code == 202
        other.rollback()
    assert_refused(put.result(), '"1-2"')


def test_an_item_that_changed_hands_meanwhile_is_still_found(
    unprojected: ApiClient, postgres: psycopg.Connection, database_url: str, ids: tuple[int, int]
) -> None:
    bob = unprojected.new_user("Bob", "bob@example.org")["id"]
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        other.execute("UPDATE items SET owner_id = %s, version = 2 WHERE id = 1", (bob,))
        put = pool.submit(unprojected.put, "/items/1", json={})
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (1,), "the change waits for the row")
        other.commit()
    assert put.result().status_code == 202
    assert (put.result().json()["version"], put.result().json()["owner"]["name"]) == (3, "Bob")


def test_changing_items_and_deleting_their_owner_do_not_deadlock(
    unprojected: ApiClient, postgres: psycopg.Connection, database_url: str, ids: tuple[int, int]
) -> None:
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT FROM items WHERE id = 1 FOR UPDATE")
        put = pool.submit(unprojected.put, "/items/1", json={}, headers={"If-Match": '"1-1"'})
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (1,), "the change waits for the item")
        deletion = pool.submit(unprojected.delete, "/users/1")
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (2,), "the deletion holds the user, waits for items")
        other.rollback()
    assert (put.result().status_code, deletion.result().status_code) == (202, 409)


# What it costs


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Yield the statements that commands send, by first word and table; WITH by what it inserts first."""
    statements: list[str] = []

    def record(statement: str) -> None:
        words = statement.replace("\n", " ").split()
        if words[0] == "WITH":
            words = words[words.index("INSERT") :]
        table = next((after for word, after in pairwise(words) if word in {"FROM", "INTO"}), "")
        statements.append(f"{words[0]} {table or words[1]}{' FOR UPDATE' * ('FOR UPDATE' in statement)}")

    with before_each_statement(record):
        yield statements


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/users", {"name": "a", "email": "a@example.org"}, ["INSERT users"]),
        ("PUT", "/users/1", {"name": "a"}, ["SELECT users FOR UPDATE", "UPDATE users"]),
        ("DELETE", "/users/2", None, ["SELECT users FOR UPDATE", "DELETE users"]),
        ("POST", "/items", item_body(1, tags=[]), ["INSERT items"]),
        ("POST", "/items", item_body(1), ["INSERT items", "INSERT tags"]),
        (
            "PUT", "/items/1", {"quality": 1},
            ["SELECT items FOR UPDATE", "SELECT users", "UPDATE items", "SELECT item_tags"],
        ),
        (
            "PUT", "/items/1", {"owner_id": 2},
            ["SELECT items FOR UPDATE", "SELECT users", "SELECT users", "UPDATE items", "SELECT item_tags"],
        ),
        (
            "PUT", "/items/1", {"tags": []},
            ["SELECT items FOR UPDATE", "SELECT users", "DELETE item_tags", "UPDATE items"],
        ),
        ("DELETE", "/items/1", None, ["SELECT items FOR UPDATE", "SELECT users", "DELETE items"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_command_sends_these_statements_and_no_more(
    unprojected: ApiClient, ids: tuple[int, int], method: str, path: str, body: Any, expected: list[str]
) -> None:
    unprojected.new_user("Bob", "bob@example.org")
    with recorded() as statements:
        assert unprojected.request(method, path, json=body).status_code == 202
    assert statements == [*expected, "INSERT outbox"]


def test_a_change_that_waited_for_its_row_bears_the_time_after_the_wait(
    unprojected: ApiClient, postgres: psycopg.Connection, database_url: str, ids: tuple[int, int]
) -> None:
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        other.execute("UPDATE items SET version = 2, updated_at = clock_timestamp() WHERE id = 1")
        put = pool.submit(unprojected.put, "/items/1", json={})
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (1,), "the change waits for the row")
        other.execute("UPDATE items SET updated_at = clock_timestamp() WHERE id = 1")
        row = other.execute("SELECT updated_at FROM items WHERE id = 1").fetchone()
        other.commit()
    assert row
    assert datetime.fromisoformat(put.result().json()["updated_at"]) >= row[0].astimezone(UTC)


# The document


def test_the_document_describes_tags_and_preconditions(make_api: Callable[..., ApiClient]) -> None:
    paths = make_api().get("/openapi.json").json()["paths"]
    for path in (path for path in paths if "{" in path):
        assert {"304", "412"} <= set(paths[path]["get"]["responses"])
        assert "content" not in paths[path]["get"]["responses"]["304"]
        for method in ("get", "put", "delete"):
            operation = paths[path][method]
            assert "412" in operation["responses"]
            assert {"If-Match", "If-None-Match"} <= {parameter["name"] for parameter in operation["parameters"]}
    tagged = {
        (method, path, status)
        for path, methods in paths.items()
        for method, operation in methods.items()
        for status, answer in operation["responses"].items()
        if "ETag" in answer.get("headers", {})
    }
    assert tagged == {
        *((method, path, status) for path in ("/users/{user_id}", "/items/{item_id}") for method, status in (
            ("get", "200"), ("get", "304"), ("get", "412"), ("put", "200"), ("put", "202"), ("put", "412"),
            ("delete", "412"),
        )),
        *(("post", path, status) for path in ("/users", "/items") for status in ("201", "202")),
    }  # fmt: skip
