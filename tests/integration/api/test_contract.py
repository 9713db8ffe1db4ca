"""The routes as the contract has them: bodies, success codes, what PUT keeps, and the document that describes it."""

import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from api.users import queries
from projector.process import Projector
from tests.fixtures.clients import ApiClient, item_body
from tests.fixtures.waiting import wait_until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_users_are_created_read_changed_and_deleted(running_projector: Projector, api: ApiClient) -> None:
    answer = api.post("/users", json={"name": "Ada", "email": "Ada@EXAMPLE.org", "id": 77, "unknown": True})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/users/1"
    user = answer.json()
    assert list(user) == ["id", "name", "email", "version", "created_at", "updated_at"]
    assert (user["id"], user["name"], user["email"], user["version"]) == (1, "Ada", "Ada@example.org", 1)
    assert TIME.fullmatch(user["created_at"])
    assert api.get("/users/1").json() == user
    assert api.get("/users").json() == [user]
    changed = api.put("/users/1", json={"name": "Ada King"})
    assert (changed.status_code, changed.json()["email"]) == (200, "Ada@example.org")
    deleted = api.delete("/users/1")
    assert (deleted.status_code, deleted.json()) == (200, {"detail": "User with id 1 has been deleted"})
    assert api.get("/users/1").status_code == api.delete("/users/1").status_code == 404
    assert api.post("/users", json={"name": "Ada", "email": "ada@example.org"}).json()["id"] == 2


def test_items_are_created_read_changed_and_deleted(running_projector: Projector, api: ApiClient) -> None:
    owner = api.new_user()
    answer = api.post("/items", json=item_body(1, tags=[" soft", "cheese", "soft", "Soft", "e\u0301", "é"]))
    assert answer.status_code == 201
    assert answer.headers["location"] == "/items/1"
    item = answer.json()
    assert list(item) == [
        "id", "name", "description", "sell_in", "quality", "owner", "tags", "version", "created_at", "updated_at",
    ]  # fmt: skip
    assert item["tags"] == ["soft", "cheese", "Soft", "é"]
    assert all(unicodedata.is_normalized("NFC", tag) for tag in item["tags"])
    assert item["owner"] == {"id": 1, "name": owner["name"], "email": owner["email"]}
    assert item["description"] is None
    assert api.get("/items/1").json() == item
    assert api.get("/items").json() == [item]
    deleted = api.delete("/items/1")
    assert (deleted.status_code, deleted.json()) == (200, {"detail": "Item with id 1 has been deleted"})
    for method in ("GET", "PUT", "DELETE"):
        gone = api.request(method, "/items/1", json={} if method == "PUT" else None)
        assert (gone.status_code, gone.json()["detail"]) == (404, "Item with id 1 not found")
    assert api.new_item(1)["id"] == 2


def test_put_keeps_what_is_absent_or_null(unprojected: ApiClient) -> None:
    unprojected.new_user()
    unprojected.new_user("Bob", "bob@example.org")
    before = unprojected.new_item(1, description="old", tags=["a", "b"])

    def put(**changes: Any) -> dict[str, Any]:
        answer = unprojected.put("/items/1", json=changes)
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        return {name: value for name, value in body.items() if name not in {"version", "updated_at"}}

    kept = put()
    assert kept.items() <= before.items()
    assert put(**dict.fromkeys(["name", "description", "sell_in", "quality", "owner_id", "tags"])) == kept
    assert put(id=5, version=9, created_at="x", owner={"id": 2}) == kept
    for changes in (
        {"name": "new"}, {"sell_in": 0}, {"quality": -(2**31)}, {"quality": 2**31 - 1}, {"description": "new"},
        {"tags": ["c", "a"]}, {"tags": []}, {"name": " padded "}, {"description": " "},
    ):  # fmt: skip
        kept |= changes
        assert put(**changes) == kept
    kept["description"] = None
    assert put(description="") == kept
    kept["owner"] = {"id": 2, "name": "Bob", "email": "bob@example.org"}
    assert put(owner_id=2) == kept
    user = unprojected.put("/users/1", json={"name": None, "email": None}).json()
    assert (user["name"], user["email"], user["version"]) == ("Ada", "ada@example.org", 2)


def test_what_fits_is_kept_to_the_letter(running_projector: Projector, api: ApiClient) -> None:
    text = "\u0001\u007f\ufffe\U0010ffff\"'\\<&\u202e🧀\u0000"[:-1]
    user = api.new_user(text, "jörg@BÜCHER.de")
    assert (user["name"], user["email"]) == (text, "jörg@bücher.de")
    assert api.post("/users", json={"name": "x", "email": "jörg@xn--bcher-kva.de"}).status_code == 409
    tags = [f"{text} {number}" for number in range(200)]
    item = api.new_item(1, name="x" * 200, description="é" * 20_000, tags=tags, sell_in=-(2**31), quality=2**31 - 1)
    assert api.get(f"/items/{item['id']}").json() == item
    assert item["tags"] == tags
    assert [tag["name"] for tag in api.everything("/tags", limit=50)] == sorted(tags)
    assert api.get("/users", params={"email": "jörg@xn--bcher-kva.de"}).json() == [user]


def test_the_root_leads_to_the_documentation(api: ApiClient) -> None:
    answer = api.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert api.get("/docs").status_code == 200
    assert api.get("/health").json() == {"status": "ok"}
    assert api.get("/metrics").headers["content-type"].startswith("text/plain")


# The document

OPERATIONS = {
    ("get", "/users"): "list_users", ("post", "/users"): "create_user", ("get", "/users/{user_id}"): "get_user",
    ("put", "/users/{user_id}"): "update_user", ("delete", "/users/{user_id}"): "delete_user",
    ("get", "/items"): "list_items", ("post", "/items"): "create_item", ("get", "/items/{item_id}"): "get_item",
    ("put", "/items/{item_id}"): "update_item", ("delete", "/items/{item_id}"): "delete_item",
    ("get", "/tags"): "list_tags", ("get", "/health"): "health", ("get", "/ready"): "ready",
    ("get", "/metrics"): "metrics",
}  # fmt: skip


def references(part: Any) -> set[str]:
    """Return everything that a piece of the document refers to."""
    if isinstance(part, list):
        return set().union(*map(references, part))
    if not isinstance(part, dict):
        return set()
    own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
    return own.union(*map(references, part.values()))


def test_the_document_describes_every_route_and_every_answer(api: ApiClient) -> None:
    document = api.get("/openapi.json").json()
    described = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert {key: operation["operationId"] for key, operation in described.items()} == OPERATIONS
    assert all(name.isidentifier() for name in OPERATIONS.values())
    schemas = document["components"]["schemas"]
    assert {reference.rpartition("/")[2] for reference in references(document)} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    assert set(schemas["ProblemDetail"]["required"]) == {"type", "title", "status", "detail", "instance", "request_id"}
    for (method, path), operation in described.items():
        assert operation["summary"]
        statuses = {int(status) for status in operation["responses"]}
        if path in {"/health", "/ready", "/metrics"}:
            continue
        expected = {200, 422, 503}
        if "{" in path:
            expected |= {404}
        elif method == "get":
            expected |= {400}
        if method in {"post", "put"}:
            expected |= {400, 413, 415}
        if method != "get":
            expected |= {202}
        if method == "post":
            expected = expected - {200} | {201}
        assert expected <= statuses, (method, path)
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                content = answer["content"]
                assert list(content) == ["application/problem+json"]
                assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/ProblemDetail"}


# What every answer has


def test_a_request_id_is_taken_made_and_given_back(unprojected: ApiClient, postgres: psycopg.Connection) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = unprojected.post(
        "/users", json={"name": "a", "email": "a@example.org"},
        headers={"X-Request-ID": "my:own_id-1.2", "traceparent": traceparent},
    )  # fmt: skip
    assert given.headers["x-request-id"] == "my:own_id-1.2"
    made = unprojected.post("/users", json={"name": "b", "email": "b@example.org"}, headers={"traceparent": "nonsense"})
    assert re.fullmatch(r"[0-9a-f]{32}", made.headers["x-request-id"])
    carried = [row[0] for row in postgres.execute("SELECT trace_context FROM outbox ORDER BY id")]
    assert carried == [
        {"request_id": "my:own_id-1.2", "traceparent": traceparent},
        {"request_id": made.headers["x-request-id"]},
    ]
    problem = unprojected.get("/nope", headers={"X-Request-ID": "abc"})
    assert problem.json()["request_id"] == problem.headers["x-request-id"] == "abc"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é".encode(), 'a"b', "<script>", "a\tb"])
def test_a_request_id_that_is_no_id_is_replaced(untouched: Any, given: str | bytes) -> None:
    answer = untouched.api.get("/health", headers={"X-Request-ID": given})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_each_request_is_one_line_in_the_log(running_projector: Projector, api: ApiClient) -> None:
    with capture_logs() as lines:
        created = api.post("/users", json={"name": "Ada", "email": "ada@example.org"}, headers={"X-Request-ID": "r1"})
        api.put("/users/1", json={"name": "A"}, headers={"Prefer": "respond-async"})
        api.get("/users/1?secret=hunter2")
        api.head("/items")
        api.get("/users/x")
        api.get("/nope" + "/%1b" * 200)
        api.patch("/items")
    assert created.status_code == 201
    requests = [line for line in lines if line["event"] == "request"]
    shown = [(line["method"], line["route"], line["status"]) for line in requests]
    assert shown[:5] == [
        ("POST", "/users", 201), ("PUT", "/users/{user_id}", 202), ("GET", "/users/{user_id}", 200),
        ("HEAD", "/items", 200), ("GET", "/users/{user_id}", 422),
    ]  # fmt: skip
    assert shown[5][0::2] == ("GET", 404)
    assert shown[5][1].isprintable()
    assert len(shown[5][1]) <= 200
    assert shown[6] == ("PATCH", "/items", 405)
    assert [line.get("visibility") for line in requests] == ["visible", "pending", *[None] * 5]
    assert [line.get("message_id") for line in requests] == [1, 2, *[None] * 5]
    assert all(0 <= line["seconds"] < 60 for line in requests)
    assert "hunter2" not in str(lines)


def test_an_error_of_ours_is_a_problem_like_any_other(
    make_api: Callable[..., ApiClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(queries, "user_by_id", broken)
    api = make_api(cors_origins=("https://a.example",))
    with capture_logs() as lines:
        answer = api.get("/users/1", headers={"X-Request-ID": "abc", "Origin": "https://a.example"})
        wait_until(lambda: len(lines) == 2, "the request is logged, after its answer was sent")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "abc"
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "hunter2" not in answer.text
    assert [(line["event"], line.get("status")) for line in lines] == [("request.broke_off", None), ("request", 500)]
    assert isinstance(lines[0]["exc_info"], RuntimeError)
    assert api.get("/health").status_code == 200


def test_no_origin_is_allowed_unless_it_is_named(api: ApiClient, make_api: Callable[..., ApiClient]) -> None:
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "PUT"}
    closed = api.get("/users", headers={"Origin": "https://a.example"})
    assert "access-control-allow-origin" not in closed.headers
    assert api.options("/users/1", headers=preflight).status_code == 405
    open_to_one = make_api(cors_origins=("https://a.example",))
    answer = open_to_one.options("/users/1", headers=preflight | {"Access-Control-Request-Headers": "Prefer"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert "prefer" in answer.headers["access-control-allow-headers"].lower()
    missing = open_to_one.get("/users/1", headers={"Origin": "https://a.example"})
    exposed = {name.strip().lower() for name in missing.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {"location", "link", "projection-status", "preference-applied", "retry-after", "x-request-id"}
    stranger = open_to_one.get("/users", headers={"Origin": "https://b.example"})
    assert "access-control-allow-origin" not in stranger.headers


def test_importing_the_application_opens_nothing_and_reads_no_environment() -> None:
    code = "import socket; socket.socket.connect = None; import api.main, api.app"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"DATABASE_URL": "nonsense"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_pipelined_and_kept_connections_are_served(api: ApiClient) -> None:
    with httpx.Client(base_url=str(api.base_url)) as one:
        assert {one.get("/health").status_code for _ in range(50)} == {200}
