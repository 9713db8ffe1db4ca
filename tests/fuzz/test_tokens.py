"""Cursors, consistency tokens and bearer tokens: what we gave out is read back, and anything else is refused."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from api.consistency.token import Token
from api.errors import CursorError, TokenError
from api.paging import decode_cursor, encode_cursor
from shared.bearer import SCOPES, Tokens, new_token
from tests.fuzz.conftest import World
from tests.fuzz.examples import computed, patient, served
from tests.fuzz.json_text import ANY_JSON
from tests.fuzz.service import JSON, Service

pytestmark = patient

ORDERS: Final[dict[str, list[type]]] = {
    "id": [int], "-id": [int], "name": [str, int], "-name": [str, int], "updated_at": [datetime, int],
}  # fmt: skip
CHARACTERS: Final = st.characters(min_codepoint=1, max_codepoint=255)
MOMENTS: Final = st.datetimes(timezones=st.just(UTC))
# Somebody may make a cursor as we do: opaque is not secret.
FORGED: Final = st.tuples(
    st.sampled_from(list(ORDERS)), st.lists(ANY_JSON | st.sampled_from(["1", '"2026-01-02T03:04:05Z"']), max_size=2)
).map(lambda parts: wire(f"[{','.join([json.dumps(parts[0]), *parts[1]])}]"))


def wire(text: str) -> str:
    """Return what a cursor that holds this text looks like."""
    return base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=")


@st.composite
def mistyped(draw: st.DrawFn, right: str) -> str:
    """Return `right` but for a few characters: others in their place, left out, added."""
    text = list(right)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text) - 1))
        text[at : at + draw(st.integers(0, 2))] = draw(st.lists(CHARACTERS, max_size=2))
        text = text or ["A"]
    return "".join(text)


@computed
@given(order=st.sampled_from(list(ORDERS)), text=FORGED | mistyped(encode_cursor("-name", ["Brie", 7])))
@example(order="updated_at", text=wire('["updated_at","0001-01-01T00:00:00+14:00",1]'))
def test_a_cursor_is_of_the_types_that_its_list_is_sorted_by_or_refused(order: str, text: str) -> None:
    with suppress(CursorError):
        values = decode_cursor(text, order, ORDERS[order])
        assert list(map(type, values)) == ORDERS[order]
        assert decode_cursor(encode_cursor(order, values), order, ORDERS[order]) == values


@served
@given(
    order=st.sampled_from(list(ORDERS)),
    text=FORGED | st.builds(encode_cursor, st.just("updated_at"), st.tuples(MOMENTS, st.just(1))),
)
@example(order="name", text=wire(r'["name","\u0000",1]'))
@example(order="-id", text=wire(f'["-id",{-(2**63) + 1}]'))
def test_a_forged_cursor_shows_a_page_or_is_refused(service: Service, order: str, text: str) -> None:
    answer = service.ask("GET", "/items", query=f"sort={order}&cursor={text}".encode())
    if answer.status != 200:
        kind = "bad-cursor" if len(text) <= 4096 else "invalid-request"
        assert (answer.status < 500, answer.json()["type"]) == (True, f"urn:kata:problem:{kind}")


HISTORY: Final = UUID("8e03978e-40d5-43dd-bc93-6894a57f9324")
GIVEN_OUT: Final = Token(HISTORY, 4711)


@computed
@given(mistyped(GIVEN_OUT.encode()) | st.text())
def test_a_mistyped_consistency_token_means_what_it_meant_or_is_refused(text: str) -> None:
    with suppress(TokenError):
        assert Token.decode(text) == GIVEN_OUT


@served
@given(history=st.uuids() | st.just(HISTORY), message_id=st.integers(0, 2**63 - 1))
def test_a_consistency_token_of_another_installation_is_refused_whatever_it_names(
    service: Service, history: UUID, message_id: int
) -> None:
    answer = service.ask(
        "GET", "/users", headers=[(b"consistency-token", Token(history, message_id).encode().encode())]
    )
    assert (answer.status, answer.json()["type"]) == (400, "urn:kata:problem:bad-token")


def test_a_token_of_our_own_is_honoured_or_refused_however_it_is_mistyped(service: Service, world: World) -> None:
    body = b'{"name": "Ada", "email": "ada@example.org"}'
    written = service.ask("POST", "/users", headers=[JSON], body=body)
    while world.relay.run_once().claimed:
        pass
    token = written.headers["consistency-token"]

    @served
    @given(st.just(token) | mistyped(token))
    def ask(text: str) -> None:
        headers = [(b"consistency-token", text.encode("latin-1"))]
        answer = service.ask("GET", "/users/1", headers=headers)
        if text == token:
            assert answer.status == 200, answer
        assert answer.status == 200 or "bad-token" in answer.json()["type"], answer

    ask()


SECRET, TOKEN = new_token("ada", ["read", "operate"])
TOKENS: Final = Tokens.parse(TOKEN.entry())


@computed
@given(mistyped(f"Bearer {SECRET}") | st.text())
def test_no_header_but_the_right_one_is_a_token(header: str) -> None:
    scheme, _, secret = header.partition(" ")
    assert (TOKENS.bearer(header) == TOKEN) == (scheme.lower() == "bearer" and secret.strip() == SECRET)


@computed
@given(
    mistyped(TOKEN.entry())
    | st.text()
    | st.lists(st.sampled_from([*SCOPES, ":", "+", ",", " ", "a", "0" * 64])).map("".join)
)
def test_a_setting_is_read_or_refused_without_being_quoted(setting: str) -> None:
    said = ""
    try:
        tokens = Tokens.parse(setting)
    except ValueError as error:
        said = str(error)
    else:
        assert bool(tokens) == bool(setting.replace(",", " ").strip())
    assert not [part for part in setting.split(":") if len(part) > 20 and part in said]
