"""Who is let in by the API: without tokens anybody on this machine, with tokens their bearers, by scope."""

import http.client
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import pytest

from api.app import create_app
from api.settings import ApiSettings
from projector.relay import Relay
from shared.bearer import new_token
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.clients import ApiClient
from tests.fixtures.consoles import Operators
from tests.fixtures.relays import drain
from tests.fixtures.waiting import wait_until

DOCUMENT: Final[dict[str, Any]] = create_app(ApiSettings(tokens=new_token("ada", ["read"])[1].entry())).openapi()
ADA: Final = {"name": "Ada", "email": "ada@example.org"}
# What machines ask, and the document: they show nothing of what is stored.
OPEN: Final = {"/", "/docs", "/redoc", "/openapi.json", "/health", "/ready", "/metrics"}
EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - what the service does with it is tested


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, a path that leads to it, and the description of every operation."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), re.sub(r"\{\w+\}", "1", path), operation


@pytest.fixture
def guarded(make_api: Callable[..., ApiClient], operators: Operators) -> ApiClient:
    """An API that asks for tokens, without a projector."""
    return make_api(tokens=operators.setting, default_wait_seconds=0)


def test_without_tokens_everybody_is_let_in_whatever_they_bring(unprojected: ApiClient) -> None:
    assert unprojected.post("/users", json=ADA).status_code == 202
    assert unprojected.get("/users", headers={"Authorization": "Bearer kata_early"}).status_code == 200


def test_with_tokens_every_operation_asks_for_one_but_those_that_show_nothing(
    guarded: ApiClient, operators: Operators
) -> None:
    asked = set()
    for method, path, operation in operations():
        answer = guarded.request(method, path)
        if path in OPEN:
            assert answer.status_code == 200, path
            assert "security" not in operation, path
            continue
        asked.add((method, path))
        scope = "read" if method == "GET" else "write"
        assert answer.status_code == 401, path
        assert answer.headers["WWW-Authenticate"] == f'Bearer realm="kata", scope="{scope}"'
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:kata:problem:unauthorized"
        assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
        assert operation["security"] == [{"token": [scope]}]
        for given in ("read", "write", "operate"):
            status = guarded.request(method, path, headers=operators.header(given)).status_code
            assert (status == 403) == (scope == "write" and given != "write"), (method, path, given)
            assert status != 401, (method, path, given)
    assert len(asked) >= 11
    assert all(guarded.get(path, follow_redirects=True).status_code == 200 for path in OPEN)


def test_what_is_not_there_asks_for_a_token_as_well(guarded: ApiClient) -> None:
    for method, path in (("HEAD", "/users"), ("OPTIONS", "/users"), ("PATCH", "/users"), ("GET", "/nowhere"),
                         ("GET", "/health/"), ("GET", "/docs/oauth2-redirect")):  # fmt: skip
        assert guarded.request(method, path).status_code == 401, (method, path)


def test_a_scope_that_is_missing_is_named(guarded: ApiClient, operators: Operators) -> None:
    answer = guarded.post("/users", json=ADA, headers=operators.header("read"))
    assert answer.status_code == 403
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="kata", error="insufficient_scope", scope="write"'
    assert answer.json()["type"] == "urn:kata:problem:insufficient-scope"
    assert answer.json()["detail"] == "The token ann does not have the scope write"


@pytest.mark.parametrize("value", ["Bearer", "Bearer kata_stolen", "Basic YW5uOg==", "Bearer \xe9", ","])
def test_what_is_no_good_token_is_refused(guarded: ApiClient, value: str) -> None:
    answer = guarded.get("/users", headers=[(b"Authorization", value.encode("latin-1"))])
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="kata", error="invalid_token"'


def test_a_token_comes_once_and_in_the_header_alone(guarded: ApiClient, operators: Operators) -> None:
    secret = operators.secrets["read"]
    right, wrong = ("Authorization", f"Bearer {secret}"), ("Authorization", "Bearer x")
    for headers, status in (([right], 200), ([right, wrong], 401), ([wrong, right], 401), ([right, right], 401)):
        assert guarded.get("/users", headers=headers).status_code == status
    guarded.cookies.set(*right)
    assert guarded.get(f"/users?access_token={secret}").status_code == 401


def test_who_is_not_let_in_is_told_before_the_body_is_read(guarded: ApiClient) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=30)
    connection.putrequest("POST", "/users")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100000")
    connection.endheaders()
    assert connection.getresponse().status == 401  # and nothing of the body was sent
    connection.close()


def test_a_key_of_one_bearer_is_not_that_of_another(make_api: Callable[..., ApiClient]) -> None:
    made = {"ann": new_token("ann", ["write"]), "ann's next": new_token("ann", ["write"]),
            "bob": new_token("bob", ["write"])}  # fmt: skip
    api = make_api(tokens=" ".join(token.entry() for _, token in made.values()), default_wait_seconds=0)

    def create(bearer: str, email: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {made[bearer][0]}", "Idempotency-Key": "k"}
        return api.post("/users", json={"name": "Ada", "email": email}, headers=headers)

    first = create("ann", "ada@example.org")
    # Who takes another token remains who she is.
    again = create("ann's next", "ada@example.org")
    other = create("bob", "bob@example.org")
    assert (first.json(), other.status_code) == (again.json(), 202)
    assert other.json()["id"] != first.json()["id"]
    assert create("bob", "ada@example.org").json()["type"] == "urn:kata:problem:idempotency-key-reused"


def test_a_page_of_another_origin_can_send_a_token_and_is_told_why_it_is_refused(
    make_api: Callable[..., ApiClient], operators: Operators
) -> None:
    api = make_api(tokens=operators.setting, cors_origins=("https://shop.example.org",))
    origin = {"Origin": "https://shop.example.org"}
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,content-type"}
    preflight = api.options("/users/1", headers=origin | asked)  # a browser sends no token with it
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
    refused = api.get("/users", headers=origin)
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == origin["Origin"]
    assert "WWW-Authenticate" in refused.headers["Access-Control-Expose-Headers"]


def test_without_tokens_a_name_of_another_host_is_not_answered(
    unprojected: ApiClient, guarded: ApiClient, operators: Operators
) -> None:
    stranger = {"Host": "attacker.example.org:8000"}  # which may resolve to 127.0.0.1 by now
    answer = unprojected.get("/users", headers=stranger)
    assert answer.status_code == 421
    assert answer.json()["type"] == "urn:kata:problem:misdirected-request"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert unprojected.get("/health", headers=stranger).status_code == 200
    assert unprojected.get("/users", headers={"Host": "localhost"}).status_code == 200
    assert guarded.get("/users", headers=stranger | operators.header("read")).status_code == 200


def requests(api: ApiProcess) -> list[dict[str, object]]:
    """Return the lines of all requests but the fixture's."""
    return [line for line in api.lines() if line["event"] == "request" and line["route"] != "/health"]


def test_the_log_names_the_bearer_and_has_no_token(
    start_api: Callable[..., ApiProcess], operators: Operators, relay: Relay
) -> None:
    api = start_api(TOKENS=operators.setting, LOG_LEVEL="debug", API_HOST=EVERYWHERE)
    statuses = []
    for scope in ("read", "write"):
        secret = operators.secrets[scope]
        for authorization in (f"Bearer {secret}", f"bearer  {secret}x"):
            headers = {"Authorization": authorization, "Prefer": "respond-async"}
            statuses += [api.client.post(f"/users?access_token={secret}", json=ADA, headers=headers).status_code]
            statuses += [api.client.get(f"/users?q={secret}", headers=headers).status_code]
    drain(relay)
    assert statuses == [403, 200, 401, 401, 202, 200, 401, 401]
    wait_until(lambda: len(requests(api)) == len(statuses), "every request is logged")
    named = {(line.get("principal"), line["status"]) for line in requests(api)}
    assert named == {("ann", 200), ("wim", 202), ("wim", 200), (None, 401), (None, 403)}
    ids = {line["token"] for line in requests(api) if "token" in line}
    assert len(ids) == 2
    assert all(re.search(f"(ann|wim):[a-z]+:{token}", operators.setting) for token in ids)
    log = api.log.read_text(encoding="utf-8")
    assert not [secret for secret in operators.secrets.values() if secret in log]


def test_without_tokens_others_are_answered_only_when_that_is_waived(start_api: Callable[..., ApiProcess]) -> None:
    careful, open_to_all = start_api(API_HOST=EVERYWHERE), start_api(API_HOST=EVERYWHERE, ALLOW_INSECURE_BIND="true")
    another_address_of_this_machine = "127.0.0.2"
    for api, warned, answers in (
        (careful, "access.bound_to_loopback", False),
        (open_to_all, "access.open_to_anybody", True),
    ):
        assert [line["event"] for line in api.lines() if line["level"] == "warning"] == [warned]
        try:
            answer = httpx.get(f"http://{another_address_of_this_machine}:{api.client.base_url.port}/users", timeout=10)
        except httpx.TransportError:
            assert not answers
        else:
            assert answers == (answer.status_code == 200)
