"""The importer: a line is imported or named with its reason, whatever its bytes; nothing is written by halves."""

import io
import json
from itertools import count
from typing import Any, Final

from hypothesis import example, given
from hypothesis import strategies as st

from api.catalogue import repository
from api.catalogue.entries import BadLine, ItemEntry, UserEntry
from api.catalogue.lines import parse_line, read_entries
from api.catalogue.seeding import Totals, seed
from shared.postgres import connect
from tests.fuzz.conftest import World
from tests.fuzz.examples import batched, computed, patient
from tests.fuzz.json_text import ANY_JSON, TEXT, changed

pytestmark = patient

USER: Final[dict[str, Any]] = {"kind": "user", "email": "ada@example.org", "name": "Ada"}
ITEM: Final[dict[str, Any]] = {
    "kind": "item", "owner_email": "ada@example.org", "name": "Brie", "description": "soft", "sell_in": 2,
    "quality": -1, "tags": ["cheese"],
}  # fmt: skip
RIGHT: Final = st.builds(lambda name: json.dumps({**ITEM, "name": name}), TEXT) | st.just(json.dumps(USER))
LINE: Final = st.binary(max_size=60) | (changed(USER) | changed(ITEM) | ANY_JSON | RIGHT).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)


@computed
@given(LINE)
@example(b'{"kind": "user", "x": ' + b"[" * 900 + rb'"\u0000"' + b"]" * 900 + b"}")
def test_any_line_is_an_entry(line: bytes) -> None:
    match parse_line(7, line):
        case BadLine(number, reason):
            assert (number, reason.isprintable(), reason != "") == (7, True, True)
        case UserEntry(number, name, email):
            assert parse_line(number, json.dumps({"kind": "user", "name": name, "email": email}).encode()) == UserEntry(
                7, name, email
            )
        case ItemEntry() as item:
            said = {name: getattr(item, name) for name in ITEM if name != "kind"}
            assert parse_line(7, json.dumps({"kind": "item", **said}).encode()) == item


@computed
@given(st.lists(st.binary(max_size=4) | st.sampled_from([b" ", b"\r", b"\x0b", b"{}"])))
def test_every_line_is_counted_wherever_it_ends(lines: list[bytes]) -> None:
    stream = b"\n".join(lines)
    numbers = [entry.line for entry in read_entries(io.BytesIO(stream))]
    assert numbers == [number for number, line in enumerate(stream.split(b"\n"), 1) if line.strip()]


class Said(list[str]):
    """A progress that remembers what was said."""

    def advance(self, lines: int) -> None:
        """Forget how far it is."""

    def say(self, text: str) -> None:
        """Remember the text."""
        self.append(text)


owners = count()


@batched
@given(st.lists(LINE, max_size=30))
def test_an_import_adds_every_good_line_once_with_its_message_and_names_every_other(
    world: World, lines: list[bytes]
) -> None:
    # Each run has an owner of its own, so that it adds something.
    own = f"ada{next(owners)}@example.org".encode()
    stream = json.dumps(USER).encode() + b"\n" + b"\n".join(lines)
    stream = stream.replace(b"ada@example.org", own)
    expected = list(read_entries(io.BytesIO(stream)))

    def run() -> tuple[Totals, Said]:
        totals, said = Totals(), Said()
        with connect(world.settings, "fuzz seed", autocommit=True, **repository.SESSION) as connection:
            seed(connection, read_entries(io.BytesIO(stream)), said, totals)
        return totals, said

    before = rows(world)
    totals, said = run()
    added = {name: number - before[name] for name, number in rows(world).items()}

    assert totals.users + totals.items + totals.already_there + totals.bad_lines == len(expected)
    assert totals.users >= 1
    assert (added["users"], added["items"]) == (totals.users, totals.items)
    assert added["outbox"] == totals.users + totals.items
    assert len(said) == totals.bad_lines >= sum(isinstance(entry, BadLine) for entry in expected)
    again, said_again = run()
    assert (again.users, again.items, again.bad_lines, said_again) == (0, 0, totals.bad_lines, said)
    world.relay.run_once()
    assert world.outbox.failures() == []


def rows(world: World) -> dict[str, int]:
    """Return how many rows the tables have that an import adds to."""
    statement = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in ("users", "items", "outbox"))
    return dict(world.postgres.execute(statement).fetchall())
