"""Reading a catalogue in JSON Lines, in bounded memory. A bad line becomes an entry, too, and says what is wrong.

The form is the one that benchmarks/debian_catalogue.py prints. A line is refused for what the API would refuse.
"""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

import orjson
from pydantic import ValidationError

from api.catalogue.entries import BadLine, Entry, ItemEntry, UserEntry
from api.catalogue.schemas import ItemLine, UserLine

MAX_LINE_BYTES: Final = 1_048_576


def read_entries(stream: BinaryIO) -> Iterator[Entry]:
    """Yield an entry for every line of `stream` that is not blank."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            while not raw.endswith(b"\n") and (raw := stream.readline(MAX_LINE_BYTES)):
                pass
            yield BadLine(number, f"longer than {MAX_LINE_BYTES} bytes")
        elif raw.strip():
            yield parse_line(number, raw)


def parse_line(number: int, raw: bytes) -> Entry:
    """Return what line `number` holds."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        return BadLine(number, f"not JSON: {error.msg} at column {error.colno}")
    if not isinstance(value, dict):
        return BadLine(number, "not a JSON object")
    # orjson refuses half of a surrogate pair, but NUL is good JSON.
    if rb"\u0000" in raw:
        for field, member in value.items():
            if _holds_nul(member):
                return BadLine(number, _printable(f"{field}: Text must not hold the character NUL"))
    try:
        return _entry(number, value)
    except ValidationError as error:
        return BadLine(number, _reason(error))


def _entry(number: int, value: dict[str, Any]) -> Entry:
    match value.get("kind"):
        case "user":
            user = UserLine.model_validate(value)
            return UserEntry(number, user.name, user.email)
        case "item":
            # An owner is named by address here; an id from another database means nothing.
            value.pop("owner_id", None)
            item = ItemLine.model_validate(value)
            return ItemEntry(
                number,
                item.owner_email,
                item.name,
                item.description or None,
                item.sell_in,
                item.quality,
                item.tags,
            )
        case _:
            return BadLine(number, 'kind: Input should be "user" or "item"')


def _holds_nul(value: object) -> bool:
    left = [value]  # no recursion: JSON may be nested deeper than Python's stack
    while left:
        match left.pop():
            case str() as text if "\x00" in text:
                return True
            case list() as members:
                left += members
            case dict() as members:
                left += [*members, *members.values()]
            case _:
                pass
    return False


def _reason(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return _printable("; ".join(f"{_place(problem['loc'])}: {problem['msg']}" for problem in problems))


def _place(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _printable(text: str) -> str:
    """Return `text` without what would steer the terminal: some messages quote the line."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
