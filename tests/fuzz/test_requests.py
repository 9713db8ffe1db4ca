"""Whatever a client sends is answered, and blamed on nobody but the client; what is accepted is read as it was sent."""

import json
import re
from itertools import count
from typing import Any, Final
from urllib.parse import quote_from_bytes

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.conftest import World
from tests.fuzz.examples import journaled, patient, served
from tests.fuzz.json_text import ANY_JSON, TEXT, changed
from tests.fuzz.service import JSON, Answer, Service

pytestmark = patient

USER: Final = {"name": "Ada", "email": "ada@example.org"}
ITEM: Final = {"name": "Brie", "sell_in": 2, "quality": 0, "owner_id": 1, "tags": ["cheese"], "description": "soft"}

# What an HTTP server lets through: in a header any bytes but those of control; in a target visible ASCII alone.
LINE: Final = st.binary(max_size=40).map(lambda line: bytes(byte for byte in line if byte == 9 or 32 <= byte != 127))
VISIBLE: Final = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20).map(str.encode)


def made_of(*pieces: bytes) -> st.SearchStrategy[bytes]:
    """Return what is put together from these pieces, most often almost right."""
    return st.lists(st.sampled_from(pieces), max_size=8).map(b"".join)


QUOTED: Final = (
    b'"', b"\\", b",", b" ", b"\t", b"", b"\xff", b"*", b"W/", b'"3"', b'"3-7"', b"-", b"99999999999999999999",
)  # fmt: skip
HEADERS: Final = {
    b"prefer": made_of(b"wait", b"=", b"0", b"respond-async", b";", b'"0"', *QUOTED[:7]),
    b"idempotency-key": made_of(b"k", b"8e03978e", *QUOTED[:7], b"x" * 256),
    b"if-match": made_of(*QUOTED),
    b"if-none-match": made_of(*QUOTED),
    b"consistency-token": made_of(b"AAAA" * 9, b"A", b"=", b"_", b"-", b"\xe9", b"."),
    b"traceparent": made_of(b"00-", b"0af7651916cd43dd8448eb211c80319c", b"-b7ad6b7169203331", b"-01", b"ff"),
    b"x-request-id": made_of(b"a", b"\x7f", b"<script>", b"x" * 200, b"\xff"),
    b"authorization": made_of(b"Bearer", b"bearer ", b"kata_", b"Basic ", b"\xff", b"="),
    b"host": made_of(b"localhost", b":", b"[", b"]", b"8000", b"::1", b"\xff", b"@", b"/"),
    b"content-type": made_of(b"application/json", b";", b"charset=", b"utf-16", b"text/plain", b"/", b"\xff", b'"'),
    b"origin": made_of(b"null", b"https://", b"example.org", b"\xff"),
    b"accept": LINE,
}
# One may come twice.
HEADER: Final = st.sampled_from(sorted(HEADERS)).flatmap(lambda name: st.tuples(st.just(name), HEADERS[name] | LINE))
ESCAPED: Final = st.binary(max_size=12).map(quote_from_bytes)
PATH: Final = (
    st.sampled_from(
        ["/users", "/items", "/tags", "/users/1", "/items/1", "/items/999", "/health", "/metrics", "/openapi.json", "/"]
    )
    | st.builds("/{}/{}".format, st.sampled_from(["users", "items", "tags"]), ESCAPED)
    | ESCAPED.map(lambda path: f"/{path}")
)
PARAMETER: Final = st.builds(
    lambda name, value: name + b"=" + value,
    st.sampled_from([b"limit", b"cursor", b"sort", b"q", b"tag", b"owner_id", b"email", b""]),
    VISIBLE
    | ESCAPED.map(str.encode)
    | st.sampled_from([b"1", b"id", b"-name", b"1001", b"9" * 5000, b"%00", b"%ff", b"%ed%a0%80", b"W10", b"brie"]),
)
METHOD: Final = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
BODY: Final = (
    st.sampled_from([b"", b"{", b"\xef\xbb\xbf{}", json.dumps(USER).encode(), json.dumps(ITEM).encode("utf-16")])
    | st.binary(max_size=60)
    | ANY_JSON.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | changed(ITEM).map(str.encode)
)


def is_good(answer: Answer) -> bool:
    """Return whether the request succeeded. Fails when it was refused in any other way than the contract says."""
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", answer.headers["x-request-id"])
    assert not [value for value in answer.headers.values() if "\n" in value or "\r" in value]
    if answer.status < 400:
        return True
    assert answer.status < 500, answer
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status
    assert problem["request_id"] == answer.headers["x-request-id"]
    if problem["type"] == "urn:kata:problem:invalid-request":
        assert [error for error in problem["errors"] if error["detail"]] == problem["errors"] != []
    return False


@served
@given(
    method=METHOD,
    path=PATH,
    parameters=st.lists(PARAMETER, max_size=3),
    headers=st.lists(HEADER, max_size=4),
    body=BODY,
)
def test_any_request_is_answered(
    service: Service, method: str, path: str, parameters: list[bytes], headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    given_type = [] if dict(headers).keys() & {b"content-type"} else [JSON]
    is_good(service.ask(method, path, query=b"&".join(parameters), headers=[*headers, *given_type], body=body))


@served
@given(
    body=changed(ITEM) | changed(USER) | ANY_JSON, path=st.sampled_from(["/users", "/items", "/items/1", "/users/1"])
)
@example(body=json.dumps({**USER, "name": "a\0"}), path="/users")
@example(body=json.dumps({**USER, "name": "\ud800"}), path="/users/1")
def test_any_json_is_accepted_or_its_wrong_fields_are_named(service: Service, body: str, path: str) -> None:
    content = body.encode("utf-8", "surrogatepass")
    method = "PUT" if path.endswith("1") else "POST"
    is_good(service.ask(method, path, headers=[JSON], body=content))


addresses = count()
NAME: Final = TEXT.map(lambda text: text[:200]).filter(str.strip)
TAGS: Final = st.lists(TEXT.filter(str.strip), max_size=5)
NUMBER: Final = st.integers(-(2**31), 2**31 - 1)


@journaled
@given(name=NAME, item=NAME, description=st.none() | TEXT, sell_in=NUMBER, quality=NUMBER, tags=TAGS)
def test_what_is_accepted_is_read_as_it_was_written(
    service: Service,
    world: World,
    name: str,
    item: str,
    description: str | None,
    sell_in: int,
    quality: int,
    tags: list[str],
) -> None:
    def write(method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = service.ask(method, path, headers=[JSON], body=json.dumps(body).encode())
        assert answer.status == 202, answer
        written: dict[str, Any] = answer.json()
        return written

    def read(path: str) -> Any:
        while world.relay.run_once().claimed:
            pass
        answer = service.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json()

    user = write("POST", "/users", {"name": name, "email": f"user{next(addresses)}@example.org"})
    fields = {"name": item, "sell_in": sell_in, "quality": quality, "description": description, "tags": tags}
    written = write("POST", "/items", {**fields, "owner_id": user["id"]})
    assert (written["name"], written["sell_in"], written["quality"]) == (item, sell_in, quality)
    assert written["description"] == (description or None)
    assert user["name"] == written["owner"]["name"] == name
    path = f"/items/{written['id']}"
    assert read(f"/users/{user['id']}") == user
    assert read(path) == written
    again = write("PUT", path, {field: written[field] for field in fields})
    assert read(path) == again == {**written, "version": 2, "updated_at": again["updated_at"]}
