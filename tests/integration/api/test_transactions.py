"""A command is one transaction: its rows and exactly one message, or nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.fixtures.clients import ApiClient, item_body, row_counts
from tests.fixtures.waiting import wait_until

FAILS = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$;
    CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON outbox {} FOR EACH ROW EXECUTE FUNCTION fail();
"""
RAISE = "RAISE EXCEPTION 'no'; RETURN NULL;"
DIE = "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL;"
AT_COMMIT = "DEFERRABLE INITIALLY DEFERRED"
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def commands(user_id: int, item_id: int, spare_id: int) -> list[tuple[str, str, Any]]:
    """Return a request for each kind of command."""
    return [
        ("POST", "/users", {"name": "Eve", "email": "eve@example.org"}),
        ("PUT", f"/users/{user_id}", {"name": "Ada King", "email": "king@example.org"}),
        ("POST", "/items", item_body(user_id, tags=["new", "newer"])),
        ("PUT", f"/items/{item_id}", {"name": "Brie", "tags": ["newest"]}),
        ("DELETE", f"/items/{item_id}", None),
        ("DELETE", f"/users/{spare_id}", None),
    ]


def content(postgres: psycopg.Connection) -> list[Any]:
    """Return every row that a command may write."""
    tables = ("users", "items", "tags", "item_tags", "outbox")
    return [postgres.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]


@pytest.fixture
def ids(unprojected: ApiClient) -> tuple[int, int, int]:
    """A user, an item of his, and a user who owns nothing."""
    user_id = unprojected.new_user()["id"]
    return user_id, unprojected.new_item(user_id)["id"], unprojected.new_user("Bob", "bob@example.org")["id"]


def test_atomic_a_committed_command_has_exactly_one_message(
    unprojected: ApiClient, postgres: psycopg.Connection, ids: tuple[int, int, int]
) -> None:
    postgres.execute("TRUNCATE outbox")
    for sent, (method, path, body) in enumerate(commands(*ids), start=1):
        assert unprojected.request(method, path, json=body).status_code == 202
        assert row_counts(postgres)["outbox"] == sent
    messages = postgres.execute("SELECT event_type, aggregate_id, aggregate_version FROM outbox ORDER BY id").fetchall()
    assert messages == [
        ("user.created", 3, 1), ("user.updated", 1, 2), ("item.created", 2, 1), ("item.updated", 1, 2),
        ("item.deleted", 1, 3), ("user.deleted", 2, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("how", "when", "status"),
    [(RAISE, "", 500), (RAISE, AT_COMMIT, 503), (DIE, "", 503), (DIE, AT_COMMIT, 503)],
    ids=["between row and message", "in the commit", "connection lost", "connection lost in the commit"],
)
def test_atomic_a_failed_command_leaves_nothing(
    unprojected: ApiClient, postgres: psycopg.Connection, ids: tuple[int, int, int], how: str, when: str, status: int
) -> None:
    before = content(postgres)
    postgres.execute(FAILS.format(how, when))
    for method, path, body in commands(*ids):
        with capture_logs():  # tracebacks take long to print
            answer = unprojected.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        problem = answer.json()
        assert problem["request_id"] == answer.headers["x-request-id"]
        if status == 503:
            assert int(answer.headers["retry-after"]) >= 1
            assert problem["type"].endswith(":outcome-unknown" if when else ":store-away")
        assert content(postgres) == before
    postgres.execute("DROP TRIGGER fail ON outbox")
    # Every connection is usable again.
    assert {unprojected.put("/users/1", json={}).status_code for _ in range(12)} == {202}


def test_atomic_a_commit_that_is_never_sent_leaves_nothing_to_whoever_gets_the_connection_next(
    make_api: Callable[..., ApiClient], postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = make_api(database_pool_size=1, default_wait_seconds=0)
    user_id = api.new_user()["id"]

    async def break_off(_: object) -> None:
        raise RuntimeError("before the commit")

    with monkeypatch.context() as broken, capture_logs():
        broken.setattr(psycopg.AsyncConnection, "commit", break_off)
        assert api.put(f"/users/{user_id}", json={"name": "Eve"}).status_code == 500

    assert row_counts(postgres)["outbox"] == 1
    assert postgres.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    ).fetchone() == (0,)
    assert api.put(f"/users/{user_id}", json={}).json()["version"] == 2
    assert postgres.execute("SELECT name, version FROM users").fetchall() == [("Ada", 2)]


def test_the_message_says_what_the_answer_shows(
    unprojected: ApiClient, postgres: psycopg.Connection, ids: tuple[int, int, int]
) -> None:
    for method, path, body in commands(*ids)[:4]:
        answer = unprojected.request(method, path, json=body).json()
        row = postgres.execute("SELECT aggregate_version, payload FROM outbox ORDER BY id DESC LIMIT 1").fetchone()
        assert row
        version, payload = row
        assert payload.pop("schema_version") == 1
        assert version == answer.pop("version")
        if "owner" in payload:
            assert payload["owner"].pop("version") >= 1
        for time in ("created_at", "updated_at"):
            assert datetime.fromisoformat(payload.pop(time)) == datetime.fromisoformat(answer.pop(time))
        assert payload == answer


def test_times_are_milliseconds_in_utc_and_created_at_stays(unprojected: ApiClient, ids: tuple[int, int, int]) -> None:
    first = unprojected.put("/items/1", json={}).json()
    second = unprojected.put("/items/1", json={}).json()
    for time in (first["created_at"], second["updated_at"]):
        assert len(time) == len("2026-01-02T03:04:05.678Z")
        assert time.endswith("Z")
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] >= first["updated_at"] >= first["created_at"]


def test_the_connection_goes_back_to_the_pool_before_the_wait(make_api: Callable[..., ApiClient]) -> None:
    api = make_api(database_pool_size=1, database_pool_timeout_seconds=0.5)
    with ThreadPoolExecutor() as pool:
        waits = pool.submit(api.new_user, Prefer="wait=2")
        wait_until(lambda: api.app.state.settlements.waiting == 1, "the first write waits")
        other = api.post("/users", json={"name": "Bob", "email": "b@example.org"}, headers={"Prefer": "respond-async"})
        assert other.status_code == 202
        assert not waits.done()
        waits.result()


def test_every_put_is_a_version_even_when_it_changes_nothing(
    unprojected: ApiClient, postgres: psycopg.Connection, ids: tuple[int, int, int]
) -> None:
    for path, body in (
        ("/items/1", {}),
        ("/users/1", {"name": "Ada"}),
        ("/items/1", {"sell_in": 2, "tags": ["cheese"]}),
    ):
        before = unprojected.put(path, json={}).json()
        after = unprojected.put(path, json=body).json()
        assert after["version"] == before["version"] + 1
        assert after | {"version": 0, "updated_at": 0} == before | {"version": 0, "updated_at": 0}
    versions = postgres.execute("SELECT aggregate_version FROM outbox WHERE aggregate_type = 'item' ORDER BY id")
    assert [version for (version,) in versions] == [1, 2, 3, 4, 5]


def test_concurrent_puts_of_one_item_all_succeed_and_all_count(
    unprojected: ApiClient, postgres: psycopg.Connection, ids: tuple[int, int, int]
) -> None:
    writes = 40
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda n: unprojected.put("/items/1", json={"quality": n, "tags": [str(n)]}), range(writes))
        )
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, writes + 2))
    assert postgres.execute("SELECT version FROM items WHERE id = 1").fetchone() == (writes + 1,)
    messages = postgres.execute("SELECT aggregate_version FROM outbox WHERE event_type LIKE 'item.%' ORDER BY id")
    assert all(earlier < later for (earlier,), (later,) in pairwise(messages.fetchall()))


def test_two_commands_that_make_the_same_tags_in_opposite_order_do_not_deadlock(
    unprojected: ApiClient, postgres: psycopg.Connection, database_url: str, ids: tuple[int, int, int]
) -> None:
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        # Both have made their first tag when they meet this one, unless they go in the same order.
        other.execute("INSERT INTO tags (name) VALUES ('m')")
        answers = [
            pool.submit(unprojected.put, "/items/1", json={"tags": ["a", "m", "z"]}),
            pool.submit(unprojected.post, "/items", json=item_body(1, tags=["z", "m", "a"])),
        ]
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (2,), "both wait for a tag")
        other.commit()
    assert [answer.result().status_code for answer in answers] == [202, 202]
    assert [answer.result().json()["tags"] for answer in answers] == [["a", "m", "z"], ["z", "m", "a"]]


def test_an_owner_deleted_meanwhile_is_not_found(
    unprojected: ApiClient, postgres: psycopg.Connection, database_url: str, ids: tuple[int, int, int]
) -> None:
    with psycopg.connect(database_url) as other, ThreadPoolExecutor() as pool:
        other.execute("DELETE FROM users WHERE id = %s", (ids[2],))
        before = content(postgres)
        answer = pool.submit(unprojected.post, "/items", json=item_body(ids[2], tags=["new"]))
        wait_until(lambda: postgres.execute(BLOCKED).fetchone() == (1,), "the command waits for the owner")
        other.commit()
    assert (answer.result().status_code, answer.result().json()["detail"]) == (404, f"Owner with id {ids[2]} not found")
    assert content(postgres)[1:] == before[1:]


def test_a_user_deleted_twice_at_once_is_deleted_once(unprojected: ApiClient, ids: tuple[int, int, int]) -> None:
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: unprojected.delete(f"/users/{ids[2]}").status_code, range(8)))
    assert sorted(answers) == [202] + [404] * 7


def test_an_email_wanted_by_many_at_once_goes_to_one(unprojected: ApiClient, postgres: psycopg.Connection) -> None:
    body = {"name": "Ada", "email": "ada@example.org"}
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: unprojected.post("/users", json=body).status_code, range(8)))
    assert sorted(answers) == [202] + [409] * 7
    assert row_counts(postgres)["outbox"] == 1


def test_an_email_given_up_can_be_taken_again(unprojected: ApiClient, ids: tuple[int, int, int]) -> None:
    assert unprojected.put(f"/users/{ids[2]}", json={"email": "robert@example.org"}).status_code == 202
    again = unprojected.post("/users", json={"name": "Bob", "email": "bob@example.org"})
    assert again.status_code == 202
    assert unprojected.delete(f"/users/{again.json()['id']}").status_code == 202
    third = unprojected.post("/users", json={"name": "Bob", "email": "bob@example.org"})
    assert third.json()["id"] > again.json()["id"]
