"""The Idempotency-Key header, and the identity of a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.idempotency.header import parse_key
from api.idempotency.request_key import RequestKey, hash_of

VISIBLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (' "a" ', "a"),
        (r'"a\"b\\c"', r'a"b\c'),
        ('"a,b"', "a,b"),
        ("a+/=~!", "a+/=~!"),
        ("x" * 255, "x" * 255),
        (f'"{"x" * 255}"', "x" * 255),
    ],
)
def test_a_key_comes_with_or_without_quotes(header: str, key: str) -> None:
    assert parse_key(header) == key


@pytest.mark.parametrize(
    "header",
    ["", " ", '""', '"', '"a', 'a"', '"a b"', "a b", "a,b", '"a", "b"', '"a";x=1', "\xe9", '"\xe9"', "a\tb", "a\x7f",
     r'"a\b"', '"a\\"', "x" * 256, f'"{"x" * 256}"'],
)  # fmt: skip
def test_what_is_no_key_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 visible ASCII characters"):
        parse_key(header)


@given(st.text(VISIBLE, min_size=1, max_size=255))
def test_every_key_can_be_quoted(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_key(f'"{escaped}"') == key


def test_spacing_and_order_make_no_other_request() -> None:
    assert hash_of({"a": 1, "b": [1, None, "é"]}) == hash_of({"b": [1, None, "é"], "a": 1})
    bodies = [{"a": 1}, {"a": "1"}, {"a": True}, {"a": [1]}, {"a": None}, {}, [], None, {"a": 10**90}]
    assert len({hash_of(body) for body in bodies}) == len(bodies)


def test_each_principal_route_and_key_has_a_lock_of_its_own() -> None:
    identities = [("", "POST /a", "k"), ("", "POST /a", "l"), ("", "POST /b", "k"), ("p", "POST /a", "k")]
    locks = [RequestKey(*identity, b"").lock for identity in identities]
    assert len(set(locks)) == len(locks)
    assert all(-(2**31) <= number < 2**31 for lock in locks for number in lock)
    assert RequestKey(*identities[0], b"x").lock == locks[0]
