"""Bearer tokens, and the setting that keeps their hashes."""

import pytest

from projector.settings import ProjectorSettings
from shared.access import ANYBODY
from shared.bearer import SCOPES, Token, Tokens, new_token
from shared.settings import SettingsError


def test_a_new_token_is_good_where_its_entry_is_set() -> None:
    secret, token = new_token("ada", ["read", "operate"])
    assert secret not in token.entry()
    assert Tokens.parse(token.entry()).bearer(f"Bearer {secret}") == token
    assert token.scopes == {"read", "operate"}


def test_the_right_one_of_several_is_found() -> None:
    (first, ada), (second, bob) = new_token("ada", ["read"]), new_token("bob", ["operate"])
    tokens = Tokens.parse(f"{ada.entry()},\n {bob.entry()}\n")
    assert tokens.bearer(f"Bearer {first}") == ada
    assert tokens.bearer(f"bearer  {second}") == bob


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer kata_x", "Basic YTpi", "Bearer é", "Bearer \ud800"]
)
def test_anything_else_is_no_token(authorization: str | None) -> None:
    _, token = new_token("ada", ["read"])
    assert Tokens.parse(token.entry()).bearer(authorization) is None


def test_while_a_token_is_replaced_both_are_good_and_name_the_same_bearer() -> None:
    (old, before), (new, after) = new_token("ada", ["read"]), new_token("ada", ["write"])
    tokens = Tokens.parse(f"{before.entry()},{after.entry()}")
    assert [tokens.bearer(f"Bearer {secret}") for secret in (old, new)] == [before, after]
    assert before.id != after.id
    assert (f":{before.id}" in before.entry(), old.startswith(before.id)) == (True, False)


def test_every_scope_includes_reading_and_no_scope_includes_another() -> None:
    for scope in SCOPES:
        _, token = new_token("ada", [scope])
        assert {other for other in SCOPES if token.may(other)} == {scope, "read"}
    assert not any(ANYBODY.may(scope) for scope in SCOPES)


def test_without_the_setting_there_are_no_tokens() -> None:
    assert not Tokens.parse(" ")
    assert Tokens.parse("").bearer("Bearer kata_x") is None


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("ada", "expected name:scopes:sha256"),
        ("ada:read:5ecret", "expected name:scopes:sha256"),
        (f"ada::{'0' * 64}", "expected name:scopes:sha256"),
        (f"ada:admin:{'0' * 64}", "a scope is one of read, write, operate"),
        (f"ada:read:{'0' * 64},bob:operate:{'0' * 64}", "a token comes twice"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused_at_the_start_without_being_quoted(setting: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as refused:
        ProjectorSettings.load(tokens=setting)
    assert "5ecret" not in str(refused.value)
    assert "0000" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a,b", "x" * 65])
def test_a_name_that_could_not_be_read_back_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected name:scopes:sha256"):
        new_token(name, ["read"])


def test_an_entry_is_read_back_as_it_was() -> None:
    _, token = new_token("ada@example.org", ["operate", "read"])
    assert Token.parse(token.entry()) == token
