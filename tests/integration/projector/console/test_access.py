"""Who may see and do what on the projector's port."""

from collections.abc import Callable

import httpx
import pytest

from tests.fixtures.consoles import Console, DeadLetters, Operators

NEVER_A_TOKEN = ("/health", "/ready", "/metrics")
PAGE = ("/", "/page/console.js", "/page/console.css", "/page/icon.svg")
OPEN = (*PAGE, "/api/overview", "/api/access")
LISTS = ("/api/dead-letters", "/api/dead-letters/messages?group=000000000000")


@pytest.fixture
def guarded(make_console: Callable[..., Console], operators: Operators) -> Console:
    """A port with tokens."""
    return make_console(tokens=operators.setting)


@pytest.fixture
def unguarded(make_console: Callable[..., Console]) -> Console:
    """A port without tokens."""
    return make_console()


def retry(console: Console, *ids: int, **headers: str) -> httpx.Response:
    return console.post("/api/dead-letters/retry", json={"ids": ids}, headers=headers)


def test_without_tokens_everything_but_payloads_can_be_seen_and_nothing_changed(
    unguarded: Console, buried: DeadLetters
) -> None:
    buried.bury(7, name="Ada")
    for path in (*NEVER_A_TOKEN, *OPEN, *LISTS):
        assert unguarded.get(path).status_code in {200, 503 if path == "/ready" else 200}, path
    assert "Ada" not in unguarded.get("/api/dead-letters").text
    for answer in (
        unguarded.get("/api/dead-letters/messages/7"),
        retry(unguarded, 7),
        unguarded.post("/api/dead-letters/discard", json={"all": True}),
    ):
        assert answer.status_code == 403
        assert "no TOKENS are set" in answer.json()["detail"]
    assert buried.states() == {7: "dead"}


def test_with_tokens_machines_and_numbers_need_none(guarded: Console) -> None:
    for path in (*NEVER_A_TOKEN, *OPEN):
        assert guarded.get(path).status_code in {200, 503 if path == "/ready" else 200}, path


def test_what_each_scope_is_good_for(guarded: Console, operators: Operators, buried: DeadLetters) -> None:
    buried.bury(7, name="Ada")
    for scope, lists, payload, action in (
        (None, 401, 401, 401),
        ("read", 200, 403, 403),
        ("write", 200, 403, 403),
        ("operate", 200, 200, 200),
    ):
        assert buried.states() == {7: "dead"}
        header = operators.header(scope) if scope else {}
        for path in LISTS:
            assert guarded.get(path, headers=header).status_code == lists, scope
        assert guarded.get("/api/dead-letters/messages/7", headers=header).status_code == payload, scope
        assert retry(guarded, 7, **header).status_code == action, scope
    assert buried.states() == {}


def test_a_token_that_is_not_good_here_is_refused_even_where_none_is_needed(guarded: Console) -> None:
    answer = guarded.get("/api/access", headers={"Authorization": "Bearer kata_stolen"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="kata", error="invalid_token"'
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_scope_that_is_missing_is_named(guarded: Console, operators: Operators) -> None:
    answer = retry(guarded, 7, **operators.header("read"))
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="kata", error="insufficient_scope", scope="operate"'
    assert answer.json()["detail"] == "The token ann does not have the scope operate"


def test_a_token_comes_in_the_header_alone(guarded: Console, operators: Operators) -> None:
    secret = operators.secrets["operate"]
    guarded.cookies.set("Authorization", f"Bearer {secret}")
    assert guarded.get(f"/api/dead-letters?access_token={secret}").status_code == 401


def test_without_tokens_only_this_machines_own_names_are_answered(unguarded: Console) -> None:
    for host in ("attacker.example.org", "attacker.example.org:8001", "127.0.0.1.example.org"):  # DNS rebinding
        for path in (*OPEN, *LISTS, "/events"):
            assert unguarded.get(path, headers={"Host": host}).status_code == 421, (path, host)
        assert unguarded.get("/health", headers={"Host": host}).status_code == 200
        assert unguarded.get("/metrics", headers={"Host": host}).status_code == 200
    # What is no name at all is none of ours, whatever address stands behind it.
    assert unguarded.get("/api/overview?%ff", headers={"Host": "a b"}).status_code == 421
    for host in ("localhost:8001", "LocalHost", "127.0.0.1", "[::1]:8001"):
        assert unguarded.get("/api/overview", headers={"Host": host}).status_code == 200, host


def test_with_tokens_or_when_asked_for_any_name_is_answered(
    guarded: Console, make_console: Callable[..., Console]
) -> None:
    header = {"Host": "ops.example.org"}
    assert guarded.get("/", headers=header).status_code == 200
    open_bind = make_console(allow_insecure_bind=True, projector_http_host="0.0.0.0")  # noqa: S104 - that is the case
    assert open_bind.get("/", headers=header).status_code == 200


def test_another_origin_is_never_let_in(guarded: Console, operators: Operators) -> None:
    origin = {"Origin": "https://attacker.example.org"}
    preflight = guarded.options("/api/dead-letters/retry", headers=origin | {"Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 405
    answer = guarded.get("/api/dead-letters", headers=origin | operators.header("operate"))
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_tells_the_browser_to_load_nothing_from_elsewhere(guarded: Console) -> None:
    for path in (*OPEN, *LISTS, "/nowhere", "/health"):
        headers = guarded.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cache-Control"] == ("no-cache" if path in PAGE else "no-store"), path


def test_a_selection_that_cannot_be_read_changes_nothing(
    guarded: Console, operators: Operators, buried: DeadLetters
) -> None:
    buried.bury(7)
    many: list[object] = [{"ids": list(range(1, 1002))}, {"ids": []}, {"ids": ["x"]}, {"ids": [0]}, {"ids": [2**63]}]
    for body in (*many, {}, {"group": "x"}, {"all": False}, [], None):
        answer = guarded.post("/api/dead-letters/discard", json=body, headers=operators.header("operate"))
        assert answer.status_code == 422, body
    assert buried.states() == {7: "dead"}


def test_a_large_body_is_refused_before_it_is_read(guarded: Console) -> None:
    answer = guarded.post("/api/dead-letters/retry", content=b" " * 100_000)
    assert answer.status_code == 413
    answer = guarded.post("/api/dead-letters/retry", content=iter([b"{}"]))  # in chunks: nobody knows how many
    assert answer.status_code == 411
