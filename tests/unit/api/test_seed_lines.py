import io
import json
from typing import Any

import pytest

from api.catalogue.entries import BadLine, ItemEntry, UserEntry
from api.catalogue.lines import MAX_LINE_BYTES, parse_line, read_entries

USER = {"kind": "user", "email": "ada@example.org", "name": "Ada"}
ITEM = {
    "kind": "item", "owner_email": "ada@example.org", "name": "Brie", "description": "soft", "sell_in": 2,
    "quality": -1, "tags": ["cheese"],
}  # fmt: skip


def parse(line: Any) -> UserEntry | ItemEntry | BadLine:
    return parse_line(7, line if isinstance(line, bytes) else json.dumps(line).encode())


def reason(line: Any) -> str:
    entry = parse(line)
    assert isinstance(entry, BadLine)
    assert entry.line == 7
    return entry.reason


def test_a_user_line_becomes_a_user() -> None:
    assert parse(USER) == UserEntry(7, "Ada", "ada@example.org")


def test_an_item_line_becomes_an_item() -> None:
    assert parse(ITEM) == ItemEntry(7, "ada@example.org", "Brie", "soft", 2, -1, ["cheese"])


def test_addresses_are_normalised_as_the_api_does() -> None:
    user = parse(USER | {"email": "Ada.L@EXAMPLE.Org"})
    item = parse(ITEM | {"owner_email": "Ada.L@EXAMPLE.Org"})
    assert isinstance(user, UserEntry)
    assert isinstance(item, ItemEntry)
    assert user.email == item.owner_email == "Ada.L@example.org"


def test_tags_are_cleaned_as_the_api_does() -> None:
    item = parse(ITEM | {"tags": [" b ", "a", "b", "e\u0301"]})
    assert isinstance(item, ItemEntry)
    assert item.tags == ["b", "a", "\u00e9"]


@pytest.mark.parametrize("description", ["", None])
def test_an_empty_description_is_no_description(description: str | None) -> None:
    item = parse(ITEM | {"description": description})
    assert isinstance(item, ItemEntry)
    assert item.description is None


def test_the_owner_id_of_another_database_means_nothing() -> None:
    assert parse(ITEM | {"owner_id": "x"}) == parse(ITEM)


def test_unknown_fields_are_ignored() -> None:
    assert parse(USER | {"shoe_size": 39}) == parse(USER)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{", "not JSON: "),
        (b'{"kind": "user", "email": "ada@example.org", "name": "\xff"}', "not JSON: "),
        (b'{"kind": "user", "email": "ada@example.org", "name": "\\ud800"}', "not JSON: "),
        (b"NaN", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b"[1]", "not a JSON object"),
        ({"email": "ada@example.org", "name": "Ada"}, 'kind: Input should be "user" or "item"'),
        (USER | {"kind": ["user"]}, 'kind: Input should be "user" or "item"'),
        (USER | {"name": "a\0b"}, "name: Text must not hold the character NUL"),
        (ITEM | {"tags": ["a", "b\0"]}, "tags: Text must not hold the character NUL"),
        (ITEM | {"more": {"a\0": 1}}, "more: Text must not hold the character NUL"),
        (b'{"more": ' + b"[" * 1000 + rb'"\u0000"' + b"]" * 1000 + b"}", "more: Text must not hold the character NUL"),
        (USER | {"email": "nobody"}, "email: value is not a valid email address"),
        (USER | {"email": 5}, "email: "),
        (USER | {"name": " "}, "name: "),
        (USER | {"name": "x" * 201}, "name: "),
        ({"kind": "user"}, "name: Field required; email: Field required"),
        (ITEM | {"owner_email": "nobody"}, "owner_email: value is not a valid email address"),
        (ITEM | {"owner_email": ["ada@example.org"]}, "owner_email: "),
        (ITEM | {"sell_in": 2**31}, "sell_in: Input should be less than or equal to 2147483647"),
        (ITEM | {"quality": -(2**31) - 1}, "quality: Input should be greater than or equal to -2147483648"),
        (ITEM | {"quality": 10**30}, "quality: "),
        (ITEM | {"quality": "5"}, "quality: Input should be a valid integer"),
        (ITEM | {"quality": True}, "quality: Input should be a valid integer"),
        (ITEM | {"tags": None}, "tags: Input should be a valid list"),
        (ITEM | {"tags": ["a", " "]}, "tags.1: "),
        (ITEM | {"description": "x" * 20_001}, "description: "),
    ],
)
def test_a_bad_line_says_what_is_wrong(line: Any, expected: str) -> None:
    assert reason(line).startswith(expected)


def test_text_that_only_looks_like_nul_is_text() -> None:
    user = parse(USER | {"name": r"a\u0000b"})
    assert isinstance(user, UserEntry)
    assert user.name == r"a\u0000b"


def test_a_reason_cannot_steer_the_terminal() -> None:
    assert reason(USER | {"email": "a\x1b[2J@example.org"}).isprintable()
    assert reason(USER | {"\x1b[2J": "\0"}).isprintable()


def test_lines_are_counted_from_one_and_blank_ones_are_passed_over() -> None:
    stream = io.BytesIO(b"\n".join([json.dumps(USER).encode(), b"", b"  \r", b"nonsense", json.dumps(ITEM).encode()]))
    assert [entry.line for entry in read_entries(stream)] == [1, 4, 5]


@pytest.mark.parametrize("size", [MAX_LINE_BYTES + 1, MAX_LINE_BYTES + 2, 3 * MAX_LINE_BYTES])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_without_end_does_not_fill_the_memory(size: int, end: bytes) -> None:
    rest = json.dumps(USER).encode() if end else b""
    long, *others = read_entries(io.BytesIO(b"x" * size + end + rest))
    assert long == BadLine(1, f"longer than {MAX_LINE_BYTES} bytes")
    assert others == ([UserEntry(2, "Ada", "ada@example.org")] if rest else [])


def test_the_longest_line_allowed_is_read() -> None:
    line = json.dumps(USER).encode()
    padded = line + b" " * (MAX_LINE_BYTES - len(line) - 1) + b"\n"
    assert list(read_entries(io.BytesIO(padded))) == [UserEntry(1, "Ada", "ada@example.org")]
