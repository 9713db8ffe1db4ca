"""Whatever is wrong with a request, the answer is a problem that names it, and nothing is changed."""

import base64
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.clients import ApiClient, item_body
from tests.integration.api.conftest import Untouched

KNOWN_KINDS = {
    400: {"unreadable", "bad-cursor"},
    404: {"not-found"},
    405: {"method-not-allowed"},
    409: {"email-taken"},
    413: {"too-large"},
    415: {"unsupported-media-type"},
    422: {"invalid-request"},
}


def assert_problem(answer: httpx.Response, status: int, pointer: str | None = None) -> dict[str, Any]:
    """Assert that the answer is a complete problem of this status, which names the field; return it."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail", "instance", "request_id"}
    assert problem["status"] == status
    assert problem["type"].removeprefix("urn:kata:problem:") in KNOWN_KINDS[status]
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert problem["request_id"] == answer.headers["x-request-id"]
    if pointer is not None:
        assert pointer in {error["pointer"] for error in problem["errors"]}, problem
        assert all(error["detail"] for error in problem["errors"])
    return problem


@dataclass(frozen=True)
class Wrong:
    """A wrong value of one field of one aggregate's body."""

    aggregate: str
    field: str
    value: Any
    pointer: str | None = None

    def __str__(self) -> str:
        return f"{self.aggregate}.{self.field}={ascii(self.value)[:20]}, {len(str(self.value))} long"


INT32 = [2**31, -(2**31) - 1, 2**63, 10**100, "5", "", True, False, 1.5, 1.0, [], {}]
INT64 = [2**63, -(2**63) - 1, 10**100, "5", True, 1.5, 1.0, [1], {"id": 1}]
TEXT = ["a\0b", "\0", "\ud800", "a\udfffb", 5, True, 1.0, [], {}, "x" * 20_001]
NAMES = [*TEXT, "", " ", "\t\n", "\u2003\u00a0", "x" * 201]
EMAILS = [
    "", " ", "ada", "@example.org", "ada@", "ada@example", "ada@localhost", "ada@@example.org", "ada example.org",
    "ada@exam ple.org", "Ada <ada@example.org>", "ada@example.org\0", "\ud800@example.org", "ada@-example.org",
    "ada@[127.0.0.1]", "a@" + "b." * 130 + "org", "x" * 100_000, 5, True, [], {},
    "ada\r\n@example.org", "ada@example.org\r\nBcc: eve@example.org",
]  # fmt: skip
TAGS = [
    ("cheese", ""), (5, ""), ({}, ""), (True, ""), ([""], "/0"), ([" \t"], "/0"), (["a", "x" * 101], "/1"),
    ([None], "/0"), ([5], "/0"), ([True], "/0"), ([["a"]], "/0"), (["a\0"], "/0"), (["a", "\udc00"], "/1"),
    ([str(n) for n in range(201)], ""),
]  # fmt: skip

WRONG = [
    *(Wrong("users", "name", value) for value in NAMES),
    *(Wrong("users", "email", value) for value in EMAILS),
    *(Wrong("items", "name", value) for value in NAMES),
    *(Wrong("items", "description", value) for value in TEXT),
    *(Wrong("items", "sell_in", value) for value in INT32),
    *(Wrong("items", "quality", value) for value in INT32),
    *(Wrong("items", "owner_id", value) for value in INT64),
    *(Wrong("items", "tags", value, f"/tags{where}") for value, where in TAGS),
]
BODIES = {"users": {"name": "Eve", "email": "eve@example.org"}, "items": item_body(1)}


@pytest.mark.parametrize("wrong", WRONG, ids=str)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_wrong_value_is_refused_by_name(untouched: Untouched, method: str, wrong: Wrong) -> None:
    before = untouched.counts()
    content = json.dumps(BODIES[wrong.aggregate] | {wrong.field: wrong.value})
    path = f"/{wrong.aggregate}" if method == "POST" else f"/{wrong.aggregate}/1"
    answer = untouched.api.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, wrong.pointer or f"/{wrong.field}")
    assert untouched.counts() == before


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "9" * 5000, "-" + "1" * 4400])
@pytest.mark.parametrize("field", ["sell_in", "quality", "owner_id", "unknown"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_numbers_that_nobody_can_hold_are_refused_by_name(
    untouched: Untouched, method: str, field: str, literal: str
) -> None:
    before = untouched.counts()
    body = json.dumps(item_body(1) | {field: "HERE"}).replace('"HERE"', literal)
    path = "/items" if method == "POST" else "/items/1"
    answer = untouched.api.request(method, path, content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, f"/{field}")
    assert untouched.counts() == before


@pytest.mark.parametrize(("aggregate", "field"), [(a, f) for a, body in BODIES.items() for f in body])
def test_a_missing_field_is_refused_by_name(untouched: Untouched, aggregate: str, field: str) -> None:
    before = untouched.counts()
    body: dict[str, Any] = {name: value for name, value in BODIES[aggregate].items() if name != field}
    assert_problem(untouched.api.post(f"/{aggregate}", json=body), 422, f"/{field}")
    assert_problem(untouched.api.post(f"/{aggregate}", json=body | {field: None}), 422, f"/{field}")
    assert untouched.counts() == before


def test_every_wrong_field_is_named_at_once(untouched: Untouched) -> None:
    answer = untouched.api.post("/items", json={"name": "", "sell_in": "5", "quality": 2**31, "tags": [1, "a", 2]})
    problem = assert_problem(answer, 422)
    pointers = ["/name", "/sell_in", "/quality", "/owner_id", "/tags/0", "/tags/2"]
    assert [error["pointer"] for error in problem["errors"]] == pointers
    assert all(pointer in problem["detail"] for pointer in pointers)


def test_a_body_that_is_wrong_in_half_a_million_places_gets_a_short_answer(untouched: Untouched) -> None:
    answer = untouched.api.post("/items", json=item_body(1, tags=[1] * 300_000, name=5))
    assert_problem(answer, 422, "/name")
    assert len(answer.content) < 5_000


JSON_TYPE = {"Content-Type": "application/json"}
TOO_DEEP = '{"name": ' + "[" * 17 + "]" * 17 + "}"
BODY_CASES: dict[str, tuple[bytes, dict[str, str], int, str | None]] = {
    "nothing": (b"", JSON_TYPE, 422, ""),
    "nothing of no type": (b"", {}, 422, ""),
    "null": (b"null", JSON_TYPE, 422, ""),
    "a list": (b"[]", JSON_TYPE, 422, ""),
    "a number": (b"5", JSON_TYPE, 422, ""),
    "text": (b'"name"', JSON_TYPE, 422, ""),
    "true": (b"true", JSON_TYPE, 422, ""),
    "no JSON": (b"{name: 1}", JSON_TYPE, 400, None),
    "JSON cut off": (b'{"name": "a', JSON_TYPE, 400, None),
    "two values": (b"{} {}", JSON_TYPE, 400, None),
    "blanks": (b"  ", JSON_TYPE, 400, None),
    "a control character": (b'{"name": "a\nb"}', JSON_TYPE, 400, None),
    "invalid UTF-8": (b'{"name": "\xff"}', JSON_TYPE, 400, None),
    "UTF-8 that spells a surrogate": (b'{"name": "\xed\xa0\x80"}', JSON_TYPE, 400, None),
    "UTF-16": ('{"name": "a"}'.encode("utf-16"), JSON_TYPE, 400, None),
    "a byte order mark": ('\ufeff{"name": "a"}'.encode(), JSON_TYPE, 400, None),
    "too deep": (TOO_DEEP.encode(), JSON_TYPE, 422, "/name" + "/0" * 15),
    "far too deep": (b"[" * 200_000, JSON_TYPE, 422, ""),
    "deep and closed": (b"[" * 200_000 + b"]" * 200_000, JSON_TYPE, 422, ""),
    "too large": (b'{"name": "' + b"x" * 1_048_576 + b'"}', JSON_TYPE, 413, None),
    "too large and no JSON": (b"x" * 2_000_000, {"Content-Type": "text/plain"}, 413, None),
    "a form": (b"name=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415, None),
    "plain text": (b'{"name": "a"}', {"Content-Type": "text/plain"}, 415, None),
    "JSON of no type": (b'{"name": "a"}', {}, 415, None),
    "JSON of a broken type": (b'{"name": "a"}', {"Content-Type": "///;;="}, 415, None),
    "an unknown field with NUL": (b'{"name": "a", "x/y~": "\\u0000"}', JSON_TYPE, 422, "/x~1y~0"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "headers", "status", "pointer"), BODY_CASES.values(), ids=BODY_CASES)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/users"), ("PUT", "/users/1"), ("POST", "/items"), ("PUT", "/items/1")]
)
def test_a_body_that_cannot_be_read_is_refused(
    untouched: Untouched,
    method: str,
    path: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
    pointer: str | None,
) -> None:
    before = untouched.counts()
    assert_problem(untouched.api.request(method, path, content=content, headers=headers), status, pointer)
    assert untouched.counts() == before


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"],
)
def test_json_by_any_of_its_names_is_read(untouched: Untouched, content_type: str) -> None:
    answer = untouched.api.put("/users/999", content=b"{}", headers={"Content-Type": content_type})
    assert_problem(answer, 404)


def test_a_streamed_body_is_refused_as_soon_as_it_is_too_large(untouched: Untouched) -> None:
    lines = "POST /items HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Transfer-Encoding: chunked"
    head = "".join(f"{line}\r\n" for line in (*lines, ""))
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", untouched.api.port), timeout=10) as connection:
        connection.sendall(head.encode() + chunk * 17)
        # The body has not ended, and never will.
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_body_as_large_as_allowed_is_read(untouched: Untouched) -> None:
    content = b'{"name": ' + b" " * (1_048_576 - 13) + b'"x"}'
    assert len(content) == 1_048_576
    assert_problem(untouched.api.put("/users/999", content=content, headers=JSON_TYPE), 404)


IDS = ["0", "-1", "999", str(2**63 - 1), str(-(2**63) + 1)]
NO_IDS = [str(2**63), "9" * 5000, "1.5", "one", "1e3", "0x1", "%00", "%FF", "%ED%A0%80", "null", "1;2", "%20"]


@pytest.mark.parametrize("path", ["/users", "/items"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(("text", "status"), [*((i, 404) for i in IDS), *((i, 422) for i in NO_IDS)])
def test_an_id_in_the_path_that_is_none(untouched: Untouched, method: str, path: str, text: str, status: int) -> None:
    before = untouched.counts()
    body = {} if method == "PUT" else None
    answer = untouched.api.request(method, f"{path}/{text}", json=body)
    problem = assert_problem(answer, status, f"{path[1:-1]}_id" if status == 422 else None)
    if status == 404:
        assert problem["detail"] == f"{path[1:-1].title()} with id {text} not found"
    assert untouched.counts() == before


@pytest.mark.parametrize(("method", "path"), [("POST", "/items"), ("PUT", "/items/1")])
@pytest.mark.parametrize("owner_id", [999, 0, -1, 2**63 - 1])
def test_an_unknown_owner_is_not_found(untouched: Untouched, method: str, path: str, owner_id: int) -> None:
    before = untouched.counts()
    problem = assert_problem(untouched.api.request(method, path, json=item_body(owner_id, tags=["new"])), 404)
    assert problem["detail"] == f"Owner with id {owner_id} not found"
    assert untouched.counts() == before


@pytest.mark.parametrize("email", ["bob@example.org", "bob@EXAMPLE.org", "  bob@example.org ", "bob@Example.ORG"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/users"), ("PUT", "/users/1")])
def test_a_taken_email_is_a_conflict_however_its_domain_is_written(
    untouched: Untouched, method: str, path: str, email: str
) -> None:
    before = untouched.counts()
    problem = assert_problem(untouched.api.request(method, path, json={"name": "Eve", "email": email}), 409)
    assert problem["detail"] == "User with email bob@example.org already exists"
    assert untouched.counts() == before


def test_a_user_who_owns_items_cannot_be_deleted(untouched: Untouched) -> None:
    before = untouched.counts()
    answer = untouched.api.delete(f"/users/{untouched.user_id}")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "User with id 1 still owns items"
    assert answer.json()["type"] == "urn:kata:problem:user-owns-items"
    assert untouched.counts() == before


def cursor(*values: Any) -> str:
    """Return a cursor that holds `values`."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def _garbage_cursors() -> Iterator[str]:
    yield from ("", "x", "!!!!", "é", "\0", "null", "ab=c", "W10=", "AAAA", "//79", "_____w")
    for text in (
        b"5",
        b"null",
        b"{}",
        b"[]",
        b'["id"]',
        b'"id"',
        b'["id",',
        b"\xff\xfe",
        b'["id","\\ud800"]',
        b"[" * 2000,
    ):
        yield base64.urlsafe_b64encode(text).decode().rstrip("=")
    for value in ("1", 1.0, 1.5, True, None, [1], {}, 2**63, -(2**63), 2**64, 10**30):
        yield cursor("id", value)
    yield cursor("id", 1, 1)
    yield cursor("name", "a", 1)
    yield cursor("-id", 1)
    yield cursor("items", "1", "a")


@pytest.mark.parametrize("garbage", list(_garbage_cursors()), ids=lambda garbage: ascii(garbage)[:40])
@pytest.mark.parametrize("path", ["/users", "/items", "/tags"])
def test_a_cursor_that_the_list_did_not_give_out_is_refused(untouched: Untouched, path: str, garbage: str) -> None:
    assert_problem(untouched.api.get(path, params={"cursor": garbage}), 400)


@pytest.mark.parametrize(
    ("sort", "values"),
    [
        ("name", ["name", 1, 1]), ("name", ["name", "a"]), ("name", ["name", "a", "1"]), ("name", ["-name", "a", 1]),
        ("name", ["id", 1]), ("id", ["items", 1, "a"]), ("-id", ["id", 1]), ("updated_at", ["updated_at", "a", 1]),
        ("updated_at", ["updated_at", 1, 1]), ("updated_at", ["updated_at", "0001-01-01T00:00:00+23:59", 1]),
        ("updated_at", ["updated_at", "9999-12-31T23:59:59-23:59", 1]), ("updated_at", ["updated_at", "", 1]),
        ("-updated_at", ["-updated_at", "2026-01-01T00:00:00Z", 2**63]), ("name", ["name", "\ud800", 1]),
    ],
)  # fmt: skip
def test_a_cursor_of_another_order_is_refused(untouched: Untouched, sort: str, values: list[Any]) -> None:
    assert_problem(untouched.api.get("/items", params={"sort": sort, "cursor": cursor(*values)}), 400)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *((path, "limit", value) for path in ("/users", "/items", "/tags")
          for value in ("0", "-1", "1001", "1.5", "ten", "", "9" * 5000, "NaN")),
        *(("/items", "sort", value) for value in ("", "ID", "quality", "--id", "+name", "id,name", "$where")),
        *(("/items", "owner_id", value) for value in ("", "one", "1.5", str(2**63), "9" * 5000)),
        *(("/items", "q", value) for value in ("", " ", '""', "- + | ( )", '"\\"', "\0", "x" * 201, "…", "🧀")),
        *((path, "cursor", "A" * 4097) for path in ("/users", "/items", "/tags")),
        ("/users", "email", "x" * 255),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused_by_name(untouched: Untouched, path: str, name: str, value: str) -> None:
    assert_problem(untouched.api.get(path, params={name: value}), 422, name)


def test_more_tags_than_a_filter_takes_are_refused(untouched: Untouched) -> None:
    assert_problem(untouched.api.get("/items", params={"tag": [str(n) for n in range(21)]}), 422, "tag")


def test_words_cannot_be_combined_with_a_sort(untouched: Untouched) -> None:
    assert_problem(untouched.api.get("/items", params={"q": "brie", "sort": "name"}), 422, "sort")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("q", "a\0b"), ("q", '"brie'), ("q", 'a" OR "b'), ("q", "-brie"), ("q", "a\\b"), ("q", "_"), ("q", "$where 1"),
        ("q", "ﬀ İ ß"), ("tag", "\0"), ("tag", ""), ("tag", "$gt"), ("tag", "x" * 10_000), ("owner_id", "-1"),
        ("owner_id", str(2**63 - 1)), ("unknown", "x"), ("limit", "1"), ("sort", "-updated_at"),
    ],
)  # fmt: skip
def test_odd_parameters_find_nothing_and_break_nothing(untouched: Untouched, name: str, value: str) -> None:
    answer = untouched.api.get("/items", params={name: value})
    assert (answer.status_code, answer.json()) == (200, [])


@pytest.mark.parametrize("email", ["x", "", "\0", "a@b", "$gt", "é@é"])
def test_an_email_filter_that_is_no_address_finds_nobody(untouched: Untouched, email: str) -> None:
    answer = untouched.api.get("/users", params={"email": email})
    assert (answer.status_code, answer.json()) == (200, [])


@pytest.mark.parametrize("path", ["/nope", "/users/1/items", "/items/1/2", "//items", "/%00", "/it%FFems", "/%3Fx%23"])
def test_an_unknown_path_is_not_found(untouched: Untouched, path: str) -> None:
    answer = untouched.api.get(httpx.URL(f"http://127.0.0.1:{untouched.api.port}").copy_with(raw_path=path.encode()))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:kata:problem:not-found"
    assert answer.json()["instance"] == path


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/users", "GET, HEAD, POST"), ("/items", "GET, HEAD, POST"), ("/tags", "GET, HEAD"), ("/", "GET, HEAD"),
        ("/users/1", "GET, HEAD, PUT, DELETE"), ("/items/1", "GET, HEAD, PUT, DELETE"), ("/health", "GET, HEAD"),
    ],
)  # fmt: skip
def test_a_wrong_method_is_told_the_right_ones(untouched: Untouched, path: str, allowed: str) -> None:
    for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} - set(allowed.split(", ")):
        answer = untouched.api.request(method, path)
        assert_problem(answer, 405)
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("host", ["[", "a b", "x:y", "[::1]:99999", "é", ""])
@pytest.mark.parametrize(
    ("path", "status"), [("/items?limit=0", 422), ("/items/", 307), ("/nope", 404), ("/users", 200)]
)
def test_a_broken_host_header_breaks_nothing(untouched: Untouched, host: str, path: str, status: int) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Request-ID: é\r\nPrefer: \xff=\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", untouched.api.port), timeout=10) as connection:
        connection.sendall(request.encode("latin-1"))
        assert connection.recv(65536).startswith(f"HTTP/1.1 {status} ".encode())


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
LIKELY = st.sampled_from(["", " ", "a", "ada@example.org", 0, 1, -1, 2**31, 2**63, None, [], ["a"], ["a", "a"], 1.0])


def bodies(*fields: str) -> st.SearchStrategy[Any]:
    """Return any JSON, most often an object that has some of these fields."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(fields, LIKELY | ANY_JSON)) | ANY_JSON


@pytest.fixture(scope="module")
def any_api(untouched: Untouched) -> ApiClient:
    """Not checked for changes: some of what is thrown at it is right."""
    return untouched.api


def send(api: ApiClient, method: str, path: str, body: Any) -> None:
    """Send any JSON and expect an answer that blames nobody but the client."""
    answer = api.request(method, path, content=json.dumps(body), headers=JSON_TYPE)
    assert answer.status_code < 500, (body, answer.text)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies("name", "description", "sell_in", "quality", "owner_id", "tags", "id", "version"))
def test_nothing_that_is_posted_as_an_item_is_an_error_of_the_service(any_api: ApiClient, body: Any) -> None:
    send(any_api, "POST", "/items", body)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies("name", "email", "id", "version"))
def test_nothing_that_is_put_as_a_user_is_an_error_of_the_service(any_api: ApiClient, body: Any) -> None:
    send(any_api, "PUT", "/users/2", body)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parameters=st.dictionaries(
        st.sampled_from(["limit", "cursor", "sort", "q", "tag", "owner_id", "email"]),
        st.text(max_size=20) | st.sampled_from(["id", "-name", "updated_at", "1", "brie", cursor("id", 1)]),
    ),
    path=st.sampled_from(["/items", "/users", "/tags", "/items/1", "/users/x"]),
)
def test_nothing_that_is_asked_for_is_an_error_of_the_service(
    any_api: ApiClient, path: str, parameters: dict[str, str]
) -> None:
    assert any_api.get(path, params=parameters).status_code < 500


@pytest.mark.parametrize("item_id", ["1.0", "1_0", "%201", "+1", "0x1", "\u0661"])
def test_ids_in_paths_are_decimal_digits(api: httpx.Client, item_id: str) -> None:
    refused = api.get(f"/items/{item_id}")

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "item_id"
