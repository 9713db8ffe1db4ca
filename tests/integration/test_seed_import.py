"""What an import writes: every row with its message, each once, and the same as through the API."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pymongo.database import Database

from api.catalogue import repository, seeding
from api.catalogue.commands import UNKNOWN_OWNER
from api.catalogue.demo import demo_entries
from api.catalogue.entries import BadLine, Entry, ItemEntry, UserEntry
from api.catalogue.lines import read_entries
from api.catalogue.seeding import Totals, seed
from api.items import commands as item_commands
from api.items.schemas import ItemCreate
from api.pool import Pool
from api.unit_of_work import UnitOfWork
from api.users import commands as user_commands
from api.users.schemas import UserCreate
from projector.outbox import COLUMNS, RawJsonLoader
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.events.event import Event
from shared.events.registry import read_event
from shared.mongo import Document
from shared.outbox.message import OutboxMessage
from shared.postgres import WAKE_CHANNEL, connect
from tests.fixtures.relays import drain
from tests.fixtures.waiting import wait_until

CATALOGUE = Path(__file__).parents[1] / "data" / "catalogue-300.jsonl"

ADA = UserEntry(1, "Ada", "ada@example.org")


class Sayings(list[str]):
    """A progress that remembers what was said."""

    def advance(self, lines: int) -> None:
        """Forget how far it is."""

    def say(self, text: str) -> None:
        """Remember the text."""
        self.append(text)


def brie(line: int, *, owner: str = ADA.email, name: str = "Brie", tags: Sequence[str] = ()) -> ItemEntry:
    return ItemEntry(line, owner, name, None, 2, 3, tags)


@pytest.fixture
def connection(settings: ProjectorSettings) -> Iterator[psycopg.Connection]:
    """A connection as the script opens it."""
    with connect(settings, "test seed", autocommit=True, **repository.SESSION) as opened:
        yield opened


def run(connection: psycopg.Connection, *entries: Entry) -> tuple[Totals, list[str]]:
    totals, sayings = Totals(), Sayings()
    seed(connection, iter(entries), sayings, totals)
    return totals, sayings


def catalogue() -> list[Entry]:
    with CATALOGUE.open("rb") as stream:
        return list(read_entries(stream))


def scalar(connection: psycopg.Connection, statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    assert row
    return row[0]


def events_of(database_url: str) -> list[Event]:
    """Return every message as the projector reads it."""
    with psycopg.connect(database_url) as connection:
        connection.adapters.register_loader("jsonb", RawJsonLoader)
        rows = connection.execute(f"SELECT {COLUMNS} FROM outbox ORDER BY id").fetchall()
    return [read_event(OutboxMessage(*row)) for row in rows]


def rows_of(connection: psycopg.Connection) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what the write model holds, in the form of the payloads."""
    users = """
        SELECT 'user' AS type, id, jsonb_build_object('id', id, 'name', name, 'email', email, 'version', version),
               created_at, updated_at FROM users
    """
    items = """
        SELECT 'item' AS type, id, jsonb_build_object(
            'id', id, 'name', name, 'description', description, 'sell_in', sell_in, 'quality', quality,
            'version', version,
            'owner', (SELECT jsonb_build_object('id', id, 'name', name, 'email', email, 'version', version)
                      FROM users WHERE id = owner_id),
            'tags', (SELECT coalesce(jsonb_agg(tags.name ORDER BY position), '[]')
                     FROM item_tags JOIN tags ON tags.id = tag_id WHERE item_id = items.id)
        ), created_at, updated_at FROM items
    """
    return {
        (kind, row_id): {**state, "created_at": created_at, "updated_at": updated_at}
        for kind, row_id, state, created_at, updated_at in connection.execute(f"{users} UNION ALL {items}")
    }


def test_every_imported_row_has_exactly_one_message_which_tells_all_of_it(
    connection: psycopg.Connection, database_url: str
) -> None:
    entries = catalogue()
    totals, said = run(connection, *entries)

    rows = rows_of(connection)
    assert totals.users + totals.items == len(rows) == len(entries) == 300
    assert totals.users == scalar(connection, "SELECT count(*) FROM users")
    assert said == []
    events = events_of(database_url)
    told = {
        (event.aggregate_type, event.aggregate_id): {
            **{field: value for field, value in event.payload.items() if field != "schema_version"},
            "version": event.aggregate_version,
        }
        for event in events
    }
    assert told == rows
    assert len(events) == len(rows)
    assert {event.event_type for event in events} == {"user.created", "item.created"}
    assert not scalar(connection, "SELECT bool_or(awaited) FROM outbox")
    assert scalar(connection, "SELECT count(*) FROM outbox WHERE trace_context IS NOT NULL OR cursor IS NOT NULL") == 0


def test_an_imported_event_is_that_of_the_same_commands_through_the_api(
    connection: psycopg.Connection, database_url: str, create_database: Callable[[str | None], str], template: str,
    settings: ProjectorSettings,
) -> None:  # fmt: skip
    entries = [*catalogue()[:250], *demo_entries()]
    run(connection, *entries[:250])
    run(connection, *entries[250:])
    other = settings.model_copy(update={"database_url": type(settings.database_url)(create_database(template))})

    async def command_each() -> None:
        pool = Pool(other, "test api", size=1, timeout=5)
        ids: dict[str, int] = {}
        for entry in entries:
            work = UnitOfWork(pool, awaited=False, trace_context=None)
            if isinstance(entry, UserEntry):
                user = UserCreate(name=entry.name, email=entry.email)
                ids[entry.email] = (await user_commands.create_user(work, user)).event.aggregate_id
            elif isinstance(entry, ItemEntry):
                fields = {name: getattr(entry, name) for name in ("name", "description", "sell_in", "quality")}
                item = ItemCreate(owner_id=ids[entry.owner_email], tags=list(entry.tags), **fields)
                await item_commands.create_item(work, item)
        await pool.close()

    asyncio.run(command_each())
    imported, commanded = events_of(database_url), events_of(other.database_url.get_secret_value())
    assert len(imported) == len(entries)
    assert [timeless(event) for event in imported] == [timeless(event) for event in commanded]
    assert columns(connection) == columns(other.database_url.get_secret_value())


def timeless(event: Event) -> tuple[Any, ...]:
    """Return all of the event but its times, the order of its fields included."""
    assert event.payload["created_at"].tzinfo
    assert event.payload["updated_at"].microsecond % 1000 == 0
    state = {name: value for name, value in event.payload.items() if name not in {"created_at", "updated_at"}}
    return event.event_type, event.aggregate_id, event.aggregate_version, tuple(event.payload), json.dumps(state)


def columns(database: psycopg.Connection | str) -> list[Any]:
    """Return the messages as they are stored, but for what differs from run to run."""
    statement = """
        SELECT id, aggregate_type, aggregate_id, aggregate_version, event_type, trace_context, awaited, cursor,
               payload - '{created_at,updated_at}'::text[]
        FROM outbox ORDER BY id
    """
    if isinstance(database, psycopg.Connection):
        return database.execute(statement).fetchall()
    with psycopg.connect(database) as connection:
        return connection.execute(statement).fetchall()


def test_a_second_import_adds_nothing(connection: psycopg.Connection) -> None:
    first, _ = run(connection, *catalogue())
    before = rows_of(connection), scalar(connection, "SELECT array_agg(id ORDER BY id) FROM outbox")
    second, said = run(connection, *catalogue())
    assert second == Totals(already_there=first.users + first.items)
    assert said == []
    assert (rows_of(connection), scalar(connection, "SELECT array_agg(id ORDER BY id) FROM outbox")) == before


def test_an_import_that_broke_off_is_completed_by_the_next(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "CHUNK_ENTRIES", 50)
    entries = catalogue()

    def broken() -> Iterator[Entry]:
        yield from entries[:120]
        raise KeyboardInterrupt

    totals = Totals()
    with pytest.raises(KeyboardInterrupt):
        seed(connection, broken(), Sayings(), totals)
    assert totals.users + totals.items == len(rows_of(connection)) == 100
    rest, _ = run(connection, *entries)
    assert (rest.users + rest.items, rest.already_there) == (200, 100)
    assert scalar(connection, "SELECT count(*) FROM outbox") == 300


def test_a_failing_chunk_leaves_neither_rows_nor_messages(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise psycopg.OperationalError("the server went away")

    monkeypatch.setattr("api.catalogue.commands.copy_in", fail)
    with pytest.raises(psycopg.OperationalError):
        run(connection, ADA, brie(2, tags=["soft"]))
    assert rows_of(connection) == {}
    assert scalar(connection, "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM tags)") == 0


def test_what_is_twice_in_a_file_is_added_once_and_the_first_counts(connection: psycopg.Connection) -> None:
    totals, said = run(
        connection, ADA, UserEntry(2, "Other", ADA.email), brie(3, tags=["a"]), brie(4, tags=["b"]),
        UserEntry(5, "Bob", "bob@example.org"), brie(6, owner="bob@example.org"),
    )  # fmt: skip
    assert totals == Totals(users=2, items=2, already_there=2)
    assert said == []
    assert scalar(connection, "SELECT name FROM users ORDER BY id LIMIT 1") == "Ada"
    assert scalar(connection, "SELECT array_agg(name) FROM tags") == ["a"]


def test_what_the_api_made_counts_as_there_even_when_it_made_it_twice(connection: psycopg.Connection) -> None:
    owner = scalar(
        connection, "INSERT INTO users (name, email, version) VALUES ('A', 'ada@example.org', 3) RETURNING id"
    )
    for _ in range(2):
        connection.execute(
            "INSERT INTO items (name, sell_in, quality, owner_id, version) VALUES ('Brie', 0, 0, %s, 1)", (owner,)
        )
    totals, _ = run(connection, ADA, brie(2), brie(3, name="Cheddar"))
    assert totals == Totals(items=1, already_there=2)
    # The owner in the message is the one there is, at its version.
    assert scalar(connection, "SELECT payload->'owner' FROM outbox") == {
        "id": owner, "name": "A", "email": "ada@example.org", "version": 3,
    }  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
def test_an_owner_further_down_does_not_count_wherever_the_chunks_end(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(seeding, "CHUNK_ENTRIES", chunk)
    bob = UserEntry(3, "Bob", "bob@example.org")
    totals, said = run(
        connection, ADA, brie(2, owner=bob.email), bob, brie(4, owner=bob.email), brie(5, owner="no@example.org")
    )
    assert totals == Totals(users=2, items=1, bad_lines=2)
    assert said == [f"line 2: {UNKNOWN_OWNER}", f"line 5: {UNKNOWN_OWNER}"]


def test_bad_lines_are_reported_in_order_and_the_rest_goes_on(connection: psycopg.Connection) -> None:
    totals, said = run(
        connection, brie(1, owner="no@example.org"), BadLine(2, "not JSON"), UserEntry(3, "Ada", ADA.email),
        brie(4, owner="no@example.org"), BadLine(5, "not JSON"), brie(6),
    )  # fmt: skip
    assert totals == Totals(users=1, items=1, bad_lines=4)
    assert [text.partition(":")[0] for text in said] == ["line 1", "line 2", "line 4", "line 5"]


def test_text_arrives_as_it_is(connection: psycopg.Connection, database_url: str) -> None:
    strange = 'tab\t newline\n backslash\\ \\N quote" \u2028 \U0001f9c0 {a,b} \\.'
    run(connection, UserEntry(1, strange, ADA.email), ItemEntry(2, ADA.email, strange, strange, 1, 2, [strange, "x"]))
    _, event = events_of(database_url)
    assert (event.payload["name"], event.payload["description"]) == (strange, strange)
    assert event.payload["tags"] == [strange, "x"]
    assert rows_of(connection)["item", event.aggregate_id]["tags"] == [strange, "x"]


def test_the_relay_is_woken_after_each_commit_with_the_lowest_message(
    connection: psycopg.Connection, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "CHUNK_ENTRIES", 2)
    postgres.execute(sql.SQL("LISTEN {}").format(sql.Identifier(WAKE_CHANNEL)))
    run(connection, ADA, brie(2, name="a"), brie(3, name="b"), brie(4, name="c"), ADA, BadLine(6, "nothing"))
    ids = scalar(connection, "SELECT array_agg(id ORDER BY id) FROM outbox")
    woken = [int(notification.payload) for notification in postgres.notifies(timeout=5, stop_after=2)]
    assert woken == [ids[0], ids[2]]
    assert list(postgres.notifies(timeout=0.1)) == []


def test_a_user_whom_a_client_adds_meanwhile_is_used(
    connection: psycopg.Connection, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_users = repository.lock_users
    added: list[int] = []

    def lock_then_be_overtaken(cursor: repository.Cursor, emails: Sequence[str]) -> Any:
        users = lock_users(cursor, emails)
        if not added:
            statement = "INSERT INTO users (name, email, version) VALUES ('Client', 'ada@example.org', 1) RETURNING id"
            added.append(scalar(postgres, statement))
        return users

    monkeypatch.setattr(repository, "lock_users", lock_then_be_overtaken)
    totals, said = run(connection, ADA, brie(2))
    assert (totals, said) == (Totals(items=1, already_there=1), [])
    assert scalar(connection, "SELECT owner_id FROM items") == added[0]
    assert scalar(connection, "SELECT array_agg(event_type) FROM outbox") == ["item.created"]


def test_two_imports_at_once_add_everything_once(settings: ProjectorSettings, connection: psycopg.Connection) -> None:
    assert repository.try_lock(connection)
    totals, sayings = Totals(), Sayings()

    def import_beside() -> None:
        with connect(settings, "test seed", autocommit=True, **repository.SESSION) as other:
            seed(other, iter(catalogue()), sayings, totals)

    beside = threading.Thread(target=import_beside)
    beside.start()
    wait_until(lambda: sayings, "the other import says that it waits")
    first, _ = run(connection, *catalogue())
    connection.close()
    beside.join(20)
    assert sayings == ["another import is running, waiting for it to end"]
    assert first.users + first.items == totals.already_there == 300
    assert totals.users + totals.items == 0


def test_what_is_asked_about_a_chunk_takes_one_pass_over_its_owners_items(connection: psycopg.Connection) -> None:
    run(connection, ADA, *(brie(line, name=f"brie {line}") for line in range(2, 3000)))
    keys = [(1, f"brie {number}") for number in range(2000)]
    plan = connection.execute(
        f"EXPLAIN {repository.KNOWN_ITEMS}",
        {"owners": [1], "owner_ids": [key for key, _ in keys], "names": [name for _, name in keys]},
    ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "Hash" in text
    assert "Nested Loop" not in text


def test_an_import_reaches_the_read_models(
    connection: psycopg.Connection, relay: Relay, read_models: Database[Document]
) -> None:
    totals, _ = run(connection, *catalogue())
    counts = drain(relay)
    assert counts.claimed == 300
    assert read_models["users_read"].count_documents({}) == totals.users
    assert read_models["items_read"].count_documents({}) == totals.items
    names = {item.name for item in catalogue() if isinstance(item, ItemEntry)}
    assert set(read_models["items_read"].distinct("name")) == names
