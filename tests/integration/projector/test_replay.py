"""Replay: what it builds. After a clean everything comes back; what is wrong in a read model is right afterwards."""

import threading
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from api.scripts.clean_mongo import clean
from projector import copying
from projector import replay as replay_module
from projector.process import Projector
from projector.relay import Relay
from projector.replays import ReplayAtWork, ReplayCancelledError, ReplayError
from shared.installation import InstallationChangedError
from shared.mongo import Document
from tests.fixtures.relays import NOW, Outbox, Watched, drain
from tests.fixtures.replays import MakeReplay, alive, raw, shadows, states
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import Rows

RunReplay = Callable[..., dict[str, int]]


def test_after_a_clean_everything_is_back_byte_for_byte(
    api: httpx.Client,
    running_projector: Projector,
    replay: RunReplay,
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
    totals = replay()

    assert totals == {"user": 2, "item": 2}
    assert raw(read_models) == before
    assert first in [d["_id"] for d in read_models["items_read"].find({"description": None, "tags": ["z", "a", "m"]})]


def test_a_second_replay_ends_with_the_same_documents(
    replay: RunReplay, rows: Rows, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    owner_id = rows.user("Ada", version=3)
    for _ in range(3):
        rows.item(owner_id, version=2)
    replay()
    before = raw(read_models)
    assert len(before) == 4

    replay()

    assert raw(read_models) == before
    assert shadows(read_models) == []
    assert states(postgres) == [("user", "done"), ("item", "done")] * 2


def test_the_rebuilt_collection_has_validator_and_indexes(
    replay: RunReplay, rows: Rows, relay: Relay, read_models: Database[Document]
) -> None:
    relay.run_once()
    before = [
        (read_models[name].options(), read_models[name].index_information()) for name in ("users_read", "items_read")
    ]
    rows.item(rows.user())
    replay()
    after = [
        (read_models[name].options(), read_models[name].index_information()) for name in ("users_read", "items_read")
    ]
    assert after == before


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_what_only_queries_look_by_is_indexed_at_the_end_unless_it_is_to_go_slowly(
    make_replay: MakeReplay, rows: Rows, read_models: Database[Document], rate: float | None
) -> None:
    rows.item(rows.user())
    replay = make_replay("item", rate=rate)
    step = replay.begin()
    live, shadow = read_models["items_read"].index_information(), read_models[step.shadow]
    assert shadow.index_information() == (live if rate else {name: live[name] for name in ("_id_", "owner")})
    while step.state == "copying":
        step = replay.copy(step)

    replay.verify(step)

    assert shadow.index_information() == live


def test_rows_are_read_while_the_ones_before_them_are_written(
    make_replay: MakeReplay, rows: Rows, watch: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "READ", 2)
    owner_id = rows.user()
    for _ in range(4):
        rows.item(owner_id)
    read: list[int] = []
    events_page = replay_module.rows.events_page

    def counted(*arguments: Any, **keywords: Any) -> Any:
        found = events_page(*arguments, **keywords)
        read.append(len(found))
        return found

    monkeypatch.setattr(replay_module.rows, "events_page", counted)
    database, commands = watch()
    replay = make_replay("item", database)
    step = replay.copy(replay.begin())
    commands.before_next(
        "insert",
        step.shadow,
        lambda: wait_until(lambda: read == [2, 2], "the next ones are read before these are sent"),
    )

    assert replay.copy(step).copied == 4


def test_a_replay_copies_page_after_page(
    make_replay: MakeReplay, rows: Rows, read_models: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "PAGE", 3)
    for _ in range(7):
        rows.user()
    steps: list[ReplayAtWork] = []
    make_replay("user").run(steps.append)

    assert [(step.state, step.copied) for step in steps] == [
        *(("copying", copied) for copied in (0, 0, 3, 6, 7)),
        ("verifying", 7),
    ]
    assert {step.expected for step in steps} == {7}
    assert read_models["users_read"].count_documents({}) == 7


def test_a_replay_puts_right_whatever_is_wrong_in_a_read_model(
    replay: RunReplay, rows: Rows, read_models: Database[Document]
) -> None:
    owner_id = rows.user("Ada", version=2)
    items = [rows.item(owner_id, version=2) for _ in range(6)]
    replay()
    right = raw(read_models)
    stored = read_models["items_read"]
    stored.delete_one({"_id": items[0]})
    stored.update_one({"_id": items[1]}, {"$set": {"name": "old", "version": 1}})
    stored.update_one({"_id": items[2]}, {"$set": {"name": "another", "version": 9}})
    stored.replace_one({"_id": items[3]}, {"_id": items[3], "version": 9, "deleted_at": NOW})
    stored.update_one({"_id": items[4]}, {"$set": {"owner.name": "old", "owner.version": 1}})
    stored.insert_one({**stored.find_one({"_id": items[5]}), "_id": 900})
    read_models["users_read"].update_one({"_id": owner_id}, {"$set": {"version": 1, "name": "old"}})

    replay()

    assert raw(read_models) == right


def test_users_alone_carry_their_names_into_the_items_that_are_there(
    replay: RunReplay, rows: Rows, read_models: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_module, "PAGE", 2)
    owner_id = rows.user("Ada", version=2)
    for _ in range(5):
        rows.item(owner_id)
    replay()
    right = raw(read_models)
    read_models["items_read"].update_many({}, {"$set": {"owner.name": "old", "owner.version": 1}})

    replay("user")

    assert raw(read_models) == right


def test_a_deleted_item_does_not_come_back(
    replay: RunReplay, relay: Relay, rows: Rows, outbox: Outbox, read_models: Database[Document]
) -> None:
    rows.user()
    outbox.item(50)
    outbox.deleted("item", 50, 2)
    drain(relay)
    replay()
    assert alive(read_models) == []
    assert read_models["items_read"].find_one() == {"_id": 50, "version": 2, "deleted_at": NOW}

    outbox.item(50)  # again, late
    assert drain(relay).stale == 1
    assert alive(read_models) == []


def test_what_has_messages_but_no_row_gets_a_tombstone(
    make_replay: MakeReplay, relay: Relay, rows: Rows, outbox: Outbox, read_models: Database[Document]
) -> None:
    # Deleted; the message that says so was discarded, and an older one is still to come.
    rows.user()
    failed = outbox.item(50, 3)
    outbox.append("item", 50, 4, "exploded", {})
    outbox.connection.execute("UPDATE outbox SET attempts = 0 WHERE id = %s", (failed,))

    make_replay("item").run()

    assert read_models["items_read"].find_one({}, {"version": 1}) == {"_id": 50, "version": 4}
    drain(relay)
    assert alive(read_models) == []


def test_the_read_models_are_never_empty_meanwhile(
    replay: RunReplay,
    make_replay: MakeReplay,
    rows: Rows,
    watch: Callable[[], Watched],
    read_models: Database[Document],
) -> None:
    rows.item(rows.user())
    replay()
    database, commands = watch()
    seen: list[int] = []

    def look() -> None:
        seen.append(len(alive(read_models)))

    for name in ("create", "listCollections"):
        commands.before_next(name, "", look)
    run = make_replay("item", database)
    run.run(lambda _: look())
    assert seen
    assert set(seen) == {1}


def test_a_replay_begins_only_while_nobody_writes(
    make_replay: MakeReplay,
    rows: Rows,
    postgres: psycopg.Connection,
    read_models: Database[Document],
    database_url: str,
) -> None:
    rows.user()
    replay = make_replay("user")
    with psycopg.connect(database_url) as batch:
        batch.execute("SELECT pg_advisory_xact_lock_shared(%s)", (0x6B617461,))
        thread = threading.Thread(target=replay.begin)
        thread.start()
        wait_until(lambda: shadows(read_models), "the shadow is made")
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test replay' AND wait_event = 'advisory'"
        )
        wait_until(lambda: states(postgres) or postgres.execute(waiting).fetchone() == (1,), "it waits, or has begun")
        assert states(postgres) == []
        # Those who come later do not stand behind it for long.
        with psycopg.connect(database_url) as another:
            another.execute("SELECT pg_advisory_xact_lock_shared(%s)", (0x6B617461,))
        assert states(postgres) == []
    thread.join(30)
    assert states(postgres) == [("user", "copying")]


def test_a_replay_stops_when_the_write_model_is_replaced(
    make_replay: MakeReplay, rows: Rows, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    rows.user()
    replay = make_replay("user")
    begun = replay.begin()
    postgres.execute("UPDATE installation SET id = gen_random_uuid()")

    with pytest.raises(InstallationChangedError):
        replay.copy(begun)
    assert read_models[begun.shadow].count_documents({}) == 0


def test_a_refused_document_ends_the_replay_and_is_named(
    make_replay: MakeReplay, rows: Rows, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    user_id = rows.user("Refused")
    replay = make_replay("user")
    begun = replay.begin()
    read_models.command("collMod", begun.shadow, validator={"name": {"$ne": "Refused"}})

    with pytest.raises(ReplayError, match=f"user {user_id}: MongoDB refused the document"):
        replay.run()
    assert states(postgres) == [("user", "failed")]
    assert shadows(read_models) == []


def test_a_shadow_that_differs_from_its_rows_never_goes_live(
    make_replay: MakeReplay,
    replay: RunReplay,
    rows: Rows,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    user_id = rows.user()
    replay("user")
    before = raw(read_models)
    spoiled = make_replay("user")

    def spoil(step: ReplayAtWork) -> None:
        if step.state == "verifying":
            read_models[step.shadow].delete_one({})

    with pytest.raises(ReplayError, match=f"user {user_id} is missing"):
        spoiled.run(spoil)

    assert states(postgres) == [("user", "done"), ("user", "failed")]
    assert postgres.execute("SELECT error FROM replays WHERE state = 'failed' AND error LIKE '%is missing%'").fetchone()
    assert shadows(read_models) == []
    assert raw(read_models) == before


def test_every_step_has_a_transaction_and_a_deadline_of_its_own(
    replay: RunReplay,
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
    replay()
    monkeypatch.setattr(copying, "READ", 2)
    database, commands = watch()
    users = make_replay("user", database)
    snapshots: list[object] = []
    begun = "SELECT xact_start FROM pg_stat_activity WHERE application_name = 'test replay' AND state LIKE 'idle in%'"

    def look() -> None:
        snapshots.append(postgres.execute(begun).fetchall())
        commands.before_next("find", "items_read", look)

    commands.before_next("find", "items_read", look)
    users.run()

    assert len(snapshots) == 3  # two of the six items each
    assert len({str(snapshot) for snapshot in snapshots}) == 3


def test_cleaning_cancels_the_replay_at_work(
    make_replay: MakeReplay, rows: Rows, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    rows.user()
    replay = make_replay("user")
    begun = replay.begin()

    clean(postgres, read_models)

    assert states(postgres) == [("user", "cancelled")]
    assert shadows(read_models) == []
    with pytest.raises(ReplayCancelledError):
        replay.copy(begun)
    assert shadows(read_models) == []
