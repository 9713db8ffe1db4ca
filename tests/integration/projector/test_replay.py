"""Replay: after a clean everything comes back; beside relays and writers nothing newer is lost."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psycopg
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from api.scripts.clean_mongo import clean
from projector import replay as replay_module
from projector.connection import open_relay_connection
from projector.process import Projector
from projector.relay import Relay
from projector.replay import Page, Replay, ReplayRefusedError
from projector.settings import ProjectorSettings
from shared.installation import InstallationChangedError
from shared.mongo import Document
from tests.fixtures.relays import Outbox, Watched, drain
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import Rows, run_cli

RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
BOTH = ("user", "item")

MakeReplay = Callable[..., Replay]


@pytest.fixture
def make_replay(settings: ProjectorSettings, read_models: Database[Document]) -> Iterator[MakeReplay]:
    """Makes replays that are stepped or run in this process."""
    connections: list[psycopg.Connection] = []

    def make(database: Database[Document] = read_models, page_deadline: float = 10) -> Replay:
        connection, installation = open_relay_connection(settings, "test replay", database)
        connections.append(connection)
        return Replay(connection, installation, database, page_deadline)

    yield make
    for connection in connections:
        connection.close()


def run(replay: Replay, *aggregate_types: str) -> dict[str, int]:
    return replay.run(aggregate_types or BOTH, lambda *_: None)


def raw(read_models: Database[Document]) -> dict[str, bytes]:
    """Every document as the bytes that MongoDB holds."""
    return {
        f"{name} {document['_id']}": document.raw
        for name in ("users_read", "items_read")
        for document in read_models.get_collection(name, codec_options=RAW).find()
    }


def test_after_a_clean_everything_is_back_byte_for_byte(
    api: httpx.Client,
    running_projector: Projector,
    make_replay: MakeReplay,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    def sent(method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = api.request(method, path, json=body or None)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else {}

    ada = sent("POST", "/users", name="Ada", email="ada@example.org")["id"]
    bob = sent("POST", "/users", name="Bob", email="bob@example.org")["id"]
    plain = {"sell_in": -3, "quality": 2**31 - 1, "owner_id": ada}
    first = sent("POST", "/items", name="ü ✓ 中", tags=["z", "a", "m"], **plain)["id"]
    second = sent("POST", "/items", name="b", description="words", tags=[], **plain)["id"]
    third = sent("POST", "/items", name="c", tags=["a"], **plain)["id"]
    sent("PUT", f"/users/{ada}", name="Ada Lovelace")
    sent("PUT", f"/items/{second}", owner_id=bob, tags=["m", "z"])
    sent("PUT", f"/users/{bob}", name="Bobby")
    sent("DELETE", f"/items/{third}")
    before = {
        key: document for key, document in raw(read_models).items() if "deleted_at" not in RawBSONDocument(document)
    }
    assert len(before) == 4

    clean(postgres, read_models)
    assert raw(read_models) == {}
    totals = run(make_replay())

    assert totals == {"user": 2, "item": 2}
    assert raw(read_models) == before
    assert first in [d["_id"] for d in read_models["items_read"].find({"description": None, "tags": ["z", "a", "m"]})]


def test_a_second_replay_changes_nothing(make_replay: MakeReplay, rows: Rows, read_models: Database[Document]) -> None:
    owner_id = rows.user("Ada", version=3)
    for _ in range(3):
        rows.item(owner_id, version=2)
    run(make_replay())
    before = raw(read_models)
    assert len(before) == 4

    applied: list[int] = []
    make_replay().run(BOTH, lambda _type, _rows, page: applied.append(page.applied))

    assert applied == [0, 0]
    assert raw(read_models) == before


def test_a_replay_reads_page_after_page(
    make_replay: MakeReplay, rows: Rows, read_models: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "PAGE", 3)
    for _ in range(7):
        rows.user()
    pages: list[Page] = []
    make_replay().run(["user"], lambda _type, _expected, page: pages.append(page))

    assert [(page.rows, page.applied) for page in pages] == [(3, 3), (3, 3), (1, 1)]
    assert read_models["users_read"].count_documents({}) == 7


def test_a_replay_brings_missing_stale_and_half_renamed_documents_up_to_date(
    make_replay: MakeReplay, rows: Rows, read_models: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "PAGE", 2)
    owner_id = rows.user("Ada", version=2)
    items = [rows.item(owner_id, version=2) for _ in range(5)]
    run(make_replay())
    right = raw(read_models)
    read_models["items_read"].delete_one({"_id": items[0]})
    read_models["items_read"].update_one({"_id": items[1]}, {"$set": {"name": "old", "version": 1}})
    read_models["items_read"].update_many(
        {"_id": {"$in": items[2:]}}, {"$set": {"owner.name": "old", "owner.version": 1}}
    )
    read_models["users_read"].update_one({"_id": owner_id}, {"$set": {"version": 1, "name": "old"}})

    # The users alone, too, carry their names into the items that are there.
    run(make_replay(), "user")
    assert read_models["items_read"].count_documents({"owner.version": 1}) == 0
    run(make_replay(), "item")

    assert raw(read_models) == right


def test_a_page_that_is_older_than_what_a_relay_settled_meanwhile_does_not_replace_it(
    make_replay: MakeReplay,
    make_relay: Callable[..., Relay],
    rows: Rows,
    outbox: Outbox,
    postgres: psycopg.Connection,
    watch: Callable[[], Watched],
    read_models: Database[Document],
) -> None:
    ada = rows.user("Ada")
    items = [rows.item(ada, "old"), rows.item(ada, "old", version=2), rows.item(ada)]
    owner = {"id": ada, "name": "Grace", "email": "grace@example.org", "version": 2}
    relay = make_relay()
    database, commands = watch()
    replay = make_replay(database)

    def meanwhile() -> None:
        # The page is read, its bulk is not sent yet: commands commit and a relay settles their messages.
        postgres.execute("UPDATE items SET name = 'new', version = version + 1 WHERE id = ANY(%s)", (items[:2],))
        postgres.execute("DELETE FROM items WHERE id = %s", (items[2],))
        outbox.user(ada, 2, "Grace")
        outbox.item(items[0], 2, owner=owner, name="new")
        outbox.item(items[1], 3, owner=owner, name="new")
        outbox.deleted("item", items[2], 2)
        assert drain(relay).settled == 4

    commands.before_next("insert", "items_read", meanwhile)
    run(replay, "item")

    found = {d["_id"]: (d["name"], d["version"], d["owner"]["name"]) for d in _alive(read_models)}
    assert found == {items[0]: ("new", 2, "Grace"), items[1]: ("new", 3, "Grace")}


def test_a_replayed_item_shows_a_rename_that_was_settled_while_its_page_was_on_its_way(
    make_replay: MakeReplay,
    make_relay: Callable[..., Relay],
    rows: Rows,
    outbox: Outbox,
    watch: Callable[[], Watched],
    read_models: Database[Document],
) -> None:
    ada = rows.user("Ada")
    rows.item(ada)
    relay = make_relay()
    database, commands = watch()
    replay = make_replay(database)

    def rename() -> None:
        outbox.user(ada, 2, "Grace")
        drain(relay)

    commands.before_next("insert", "items_read", rename)
    run(replay, "item")

    assert [d["owner"]["name"] for d in _alive(read_models)] == ["Grace"]


def test_a_deleted_item_does_not_come_back(
    make_replay: MakeReplay, relay: Relay, rows: Rows, outbox: Outbox, read_models: Database[Document]
) -> None:
    rows.user()
    outbox.item(50)
    outbox.deleted("item", 50, 2)
    drain(relay)
    run(make_replay())

    assert _alive(read_models) == []
    assert read_models["items_read"].count_documents({"_id": 50, "version": 2}) == 1


def test_a_replay_beside_a_busy_projector_and_writers_ends_without_drift(
    running_projector: Projector,
    api: httpx.Client,
    settings: ProjectorSettings,
    postgres: psycopg.Connection,
    read_models: Database[Document],
    make_replay: MakeReplay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_module, "PAGE", 5)
    eventual = {"Prefer": "respond-async"}
    ada = api.post("/users", json={"name": "Ada", "email": "ada@example.org"}).json()["id"]
    body = {"name": "a", "sell_in": 1, "quality": 2, "owner_id": ada, "tags": ["x"]}
    items = [api.post("/items", json=body).json()["id"] for _ in range(20)]
    clean(postgres, read_models)
    errors: list[object] = []
    begin = threading.Barrier(2)

    def write() -> None:
        begin.wait()
        for n, item_id in enumerate(items):
            answers = [
                api.put(f"/items/{item_id}", json={"name": f"b{n}"}, headers=eventual),
                api.put(f"/users/{ada}", json={"name": f"Ada {n}"}, headers=eventual),
            ]
            if n % 5 == 0:
                answers.append(api.delete(f"/items/{item_id}", headers=eventual))
            errors.extend(answer.text for answer in answers if not answer.is_success)

    writer = threading.Thread(target=write)
    writer.start()
    begin.wait()
    while writer.is_alive():
        run(make_replay())
    writer.join()
    run(make_replay())
    wait_until(lambda: postgres.execute("SELECT count(*) FROM outbox").fetchone() == (0,), "everything is settled")

    assert errors == []
    done = run_cli(settings, "verify", "--json")
    assert (done.returncode, json.loads(done.stdout)["drift"]) == (0, 0)
    assert {d["owner"]["name"] for d in _alive(read_models)} == {"Ada 19"}
    assert len(_alive(read_models)) == 16


def test_a_replay_waits_while_the_read_models_are_emptied(
    make_replay: MakeReplay, rows: Rows, settings: ProjectorSettings, read_models: Database[Document]
) -> None:
    rows.user()
    replay = make_replay()
    with psycopg.connect(settings.database_url.get_secret_value()) as emptying:
        emptying.execute("SELECT pg_advisory_xact_lock(%s)", (0x6B617461,))
        thread = threading.Thread(target=run, args=(replay,))
        thread.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test replay' AND wait_event = 'advisory'"
        )
        with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
            wait_until(lambda: connection.execute(waiting).fetchone() == (1,), "the replay waits")
        assert read_models["users_read"].count_documents({}) == 0
    thread.join(20)
    assert read_models["users_read"].count_documents({}) == 1


def test_a_replay_stops_when_the_write_model_is_replaced(
    make_replay: MakeReplay, rows: Rows, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    rows.user()
    replay = make_replay()
    postgres.execute("UPDATE installation SET id = gen_random_uuid()")

    with pytest.raises(InstallationChangedError):
        run(replay)
    assert read_models["users_read"].count_documents({}) == 0


def test_a_refused_document_ends_the_replay_and_is_named(
    make_replay: MakeReplay, rows: Rows, read_models: Database[Document]
) -> None:
    user_id = rows.user("Refused")
    replay = make_replay()
    read_models.command("collMod", "users_read", validator={"name": {"$ne": "Refused"}})

    with pytest.raises(ReplayRefusedError, match=f"user {user_id}: MongoDB refused the document"):
        run(replay)


def test_every_step_of_a_replay_has_a_transaction_and_a_deadline_of_its_own(
    make_replay: MakeReplay,
    rows: Rows,
    watch: Callable[[], Watched],
    postgres: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A page of users may own any number of items, so their items are corrected in steps.
    ada = rows.user("Ada", version=2)
    for _ in range(6):
        rows.item(ada)
    run(make_replay())
    monkeypatch.setattr(replay_module, "PAGE", 2)
    database, commands = watch()
    replay = make_replay(database)
    snapshots: list[object] = []
    begun = "SELECT xact_start FROM pg_stat_activity WHERE application_name = 'test replay' AND state LIKE 'idle in%'"

    def look() -> None:
        snapshots.append(postgres.execute(begun).fetchall())
        commands.before_next("find", "items_read", look)

    commands.before_next("find", "items_read", look)
    run(replay, "user")

    assert len(snapshots) == 4  # three full pages of two and an empty one
    assert len({str(snapshot) for snapshot in snapshots}) == 4


def test_the_command_replay_ends_with_one_json_object(settings: ProjectorSettings, rows: Rows) -> None:
    owner_id = rows.user()
    rows.item(owner_id)
    rows.item(owner_id)

    done = run_cli(settings, "replay", "--json")
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])) == (0, {"users": 1, "items": 2})

    done = run_cli(settings, "replay", "items")
    assert (done.returncode, done.stdout) == (0, "Replayed 2 items.\n")


def _alive(read_models: Database[Document]) -> list[Document]:
    return list(read_models["items_read"].find({"deleted_at": None}))
