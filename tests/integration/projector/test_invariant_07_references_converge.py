"""Invariant 7: references converge. An item shows its owner's newest version whichever of the two comes first."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pymongo.database import Database

from projector.batch import Batch, prepare_to_relay
from projector.outbox import Recorded
from projector.owners import unmoved
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.mongo import Document
from shared.postgres import SETTLED_CHANNEL, connect
from tests.fixtures.relays import Outbox, OutboxAndUsers, Watched, drain

MakeRelay = Callable[..., Relay]


@pytest.fixture
def outbox(postgres: psycopg.Connection) -> Outbox:
    return OutboxAndUsers(postgres)


@pytest.fixture
def before_the_next_settlement(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Lets something else happen once, after a batch is stored and before its settlement is sent."""
    settle = Batch.settle

    def let_happen(action: Callable[[], object]) -> None:
        def after_action(self: Batch, *arguments: Any, **keywords: Any) -> Recorded:
            monkeypatch.setattr(Batch, "settle", settle)
            action()
            return settle(self, *arguments, **keywords)

        monkeypatch.setattr(Batch, "settle", after_action)

    return let_happen


def owner(user_id: int, version: int, name: str) -> dict[str, Any]:
    return {"id": user_id, "name": name, "email": f"user{user_id}@example.org", "version": version}


ADA = owner(1, 1, "Ada")
GRACE = owner(1, 2, "Grace")
OTHER = owner(2, 1, "Other")


def owners(read_models: Database[Document]) -> dict[int, tuple[int, str, int]]:
    """Item id -> id, name and version of the owner it embeds."""
    return {
        item["_id"]: (item["owner"]["id"], item["owner"]["name"], item["owner"]["version"])
        for item in read_models["items_read"].find({"deleted_at": None}).sort("_id", 1)
    }


@pytest.fixture
def an_item_and_a_rename(relay: Relay, outbox: Outbox) -> tuple[int, int]:
    """Two messages that meet: an item whose command saw version 1 of its owner, and version 2 of the owner."""
    outbox.user(1)
    drain(relay)
    return outbox.item(1, owner=ADA), outbox.user(1, 2, "Grace")


def test_an_item_stored_after_the_rename_looked_is_corrected_by_its_own_look(
    an_item_and_a_rename: None, make_relay: MakeRelay, watch: Callable[[], Watched], read_models: Database[Document]
) -> None:
    database, commands = watch()
    for_item, for_user = make_relay(database, batch_size=1), make_relay(batch_size=1)
    commands.before_next("insert", "items_read", for_user.run_once)

    for_item.run_once()

    assert owners(read_models) == {1: (1, "Grace", 2)}


def test_an_item_sees_a_rename_that_was_committed_and_relayed_after_its_claim(
    relay: Relay, outbox: Outbox, make_relay: MakeRelay, watch: Callable[[], Watched], read_models: Database[Document]
) -> None:
    outbox.user(1)
    drain(relay)
    outbox.item(1, owner=ADA)
    database, commands = watch()

    def rename() -> None:
        outbox.user(1, 2, "Grace")
        assert relay.run_once().settled == 1

    commands.before_next("insert", "items_read", rename)
    make_relay(database).run_once()

    assert owners(read_models) == {1: (1, "Grace", 2)}


def test_an_item_that_looked_before_the_rename_was_stored_is_found_by_the_rename(
    relay: Relay, outbox: Outbox, make_relay: MakeRelay, watch: Callable[[], Watched], read_models: Database[Document]
) -> None:
    outbox.user(1)
    drain(relay)
    outbox.user(1, 2, "Grace")
    outbox.item(1, owner=ADA)
    database, commands = watch()
    for_user, for_item = make_relay(database, batch_size=1), make_relay(batch_size=1)
    commands.before_next("update", "users_read", for_item.run_once)

    for_user.run_once()

    assert owners(read_models) == {1: (1, "Grace", 2)}


BeforeTheNextSettlement = Callable[[Callable[[], object]], None]


def test_a_rename_stored_between_an_items_store_and_its_look_reaches_it(
    an_item_and_a_rename: None,
    make_relay: MakeRelay,
    before_the_next_settlement: BeforeTheNextSettlement,
    read_models: Database[Document],
) -> None:
    for_item, for_user = make_relay(batch_size=1), make_relay(batch_size=1)
    before_the_next_settlement(for_user.run_once)

    assert for_item.run_once().settled == 1

    assert owners(read_models) == {1: (1, "Grace", 2)}


def test_a_rename_that_commits_after_an_items_store_does_not_keep_it_and_reaches_it_later(
    relay: Relay,
    outbox: Outbox,
    before_the_next_settlement: BeforeTheNextSettlement,
    read_models: Database[Document],
) -> None:
    outbox.user(1)
    drain(relay)
    outbox.item(1, owner=ADA)
    before_the_next_settlement(lambda: outbox.user(1, 2, "Grace"))

    assert relay.run_once().settled == 1
    assert owners(read_models) == {1: (1, "Ada", 1)}

    drain(relay)
    assert owners(read_models) == {1: (1, "Grace", 2)}


def test_the_look_at_owners_reads_theirs_and_no_other_rows(
    settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    postgres.execute(
        "INSERT INTO users (version, name, email)"
        " SELECT 1, 'Ada', 'user' || n || '@example.org' FROM generate_series(1, 5000) AS n"
    )
    postgres.execute("VACUUM ANALYZE users")
    with connect(settings, "test", autocommit=True) as lane:
        prepare_to_relay(lane)
        embedded = dict.fromkeys(range(1, 5001, 10), 1)
        ((explained,),) = lane.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {unmoved(embedded)}".encode()).fetchall()
    found = [node for node in nodes(explained[0]["Plan"]) if node.get("Relation Name") == "users"]
    assert [(node["Index Name"], node["Actual Rows"], node["Actual Loops"]) for node in found] == [
        ("pk_users", 1, len(embedded))
    ]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", ()) for node in nodes(part))]


def test_what_becomes_of_others_beside_an_item_whose_owner_moved_on_is_recorded_once(
    five_items: None, make_relay: MakeRelay, outbox: Outbox, read_models: Database[Document]
) -> None:
    relay = make_relay(**STEPS)
    rename = outbox.user(1, 2, "Grace")
    broken = outbox.append("user", 9, 1, "exploded", {})
    outbox.item(6, owner=ADA)

    counts = relay.run_once()

    assert (counts.unfinished, counts.failed, counts.settled) == (1, 1, 1)
    assert outbox.ids() == [rename]
    assert [(failed, state) for failed, state, _ in outbox.failures()] == [(broken, "retrying")]
    drain(relay)
    assert set(owners(read_models).values()) == {(1, "Grace", 2)}


def test_a_redelivery_finishes_the_looks_that_a_crash_left(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.user(1)
    outbox.item(1, owner=ADA)
    outbox.user(1, 2, "Grace")
    drain(relay)
    # As after a crash between the store and the look: both documents are stored, the copy is old.
    read_models["items_read"].update_one({"_id": 1}, {"$set": {"owner": ADA}})

    outbox.user(1, 2, "Grace")
    assert drain(relay).stale == 1
    assert owners(read_models) == {1: (1, "Grace", 2)}

    read_models["items_read"].update_one({"_id": 1}, {"$set": {"owner": ADA}})
    outbox.item(1, owner=ADA)
    assert drain(relay).stale == 1
    assert owners(read_models) == {1: (1, "Grace", 2)}


def test_a_stale_owner_in_a_newer_item_event_does_not_replace_the_newer_stored_one(
    relay: Relay, outbox: Outbox, read_models: Database[Document], make_relay: MakeRelay, watch: Callable[[], Watched]
) -> None:
    outbox.item(1, owner=GRACE)
    drain(relay)
    outbox.item(1, 2, owner=ADA, name="renamed")

    # Even the write itself does not: nothing was corrected afterwards, no user is stored that could be looked at.
    drain(relay)

    assert owners(read_models) == {1: (1, "Grace", 2)}
    assert read_models["items_read"].count_documents({"name": "renamed", "version": 2}) == 1


def test_a_late_rename_takes_no_newer_owner_back(relay: Relay, outbox: Outbox, read_models: Database[Document]) -> None:
    outbox.user(1)
    outbox.item(1, owner=ADA)
    outbox.user(1, 3, "Ada King")
    drain(relay)
    # It is stale, and looks at the user's items all the same.
    outbox.user(1, 2, "Grace")

    assert drain(relay).stale == 1

    assert owners(read_models) == {1: (1, "Ada King", 3)}


def test_versions_of_different_owners_are_not_compared(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.item(1, owner=owner(1, 9, "Grace"))
    drain(relay)
    outbox.item(1, 2, owner=OTHER)
    drain(relay)

    assert owners(read_models) == {1: (2, "Other", 1)}


def test_an_item_that_moved_to_another_owner_is_not_touched_by_a_rename(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.user(1)
    outbox.item(1, owner=ADA)
    outbox.item(2, owner=ADA)
    outbox.item(3, owner=ADA)
    outbox.item(2, 2, owner=OTHER)
    drain(relay)
    outbox.user(1, 2, "Grace")
    drain(relay)

    assert owners(read_models) == {1: (1, "Grace", 2), 2: (2, "Other", 1), 3: (1, "Grace", 2)}


def test_an_item_that_moves_while_the_rename_is_at_work_keeps_its_new_owner(
    relay: Relay, outbox: Outbox, make_relay: MakeRelay, watch: Callable[[], Watched], read_models: Database[Document]
) -> None:
    outbox.user(1)
    for item_id in (1, 2, 3):
        outbox.item(item_id, owner=ADA)
    drain(relay)
    outbox.user(1, 2, "Grace")
    outbox.item(2, 2, owner=OTHER)
    database, commands = watch()
    renaming, moving = make_relay(database, batch_size=1), make_relay(batch_size=1)
    # The rename has read which items there are, and has not written yet.
    commands.before_next("update", "items_read", moving.run_once)

    renaming.run_once()

    assert owners(read_models) == {1: (1, "Grace", 2), 2: (2, "Other", 1), 3: (1, "Grace", 2)}


@pytest.fixture
def five_items(relay: Relay, outbox: Outbox) -> None:
    outbox.user(1)
    for item_id in range(1, 6):
        outbox.item(item_id, owner=ADA)
    drain(relay)


STEPS = {"fan_out_step": 2, "fan_out_budget_seconds": 0}


def test_a_rename_in_steps_keeps_its_row_and_cursor_and_lets_its_neighbours_go(
    five_items: None, outbox: Outbox, make_relay: MakeRelay, read_models: Database[Document]
) -> None:
    relay = make_relay(**STEPS)
    rename = outbox.user(1, 2, "Grace", awaited=True)
    neighbour = outbox.user(9)
    created_at = outbox.connection.execute("SELECT created_at FROM outbox WHERE id = %s", (rename,)).fetchone()

    counts = relay.run_once()

    assert (counts.claimed, counts.settled, counts.unfinished, counts.more) == (2, 1, 1, True)
    assert neighbour not in outbox.ids()
    assert outbox.connection.execute('SELECT id, "cursor", awaited FROM outbox').fetchall() == [(rename, 2, True)]
    assert outbox.connection.execute("SELECT created_at FROM outbox").fetchone() == created_at
    assert list(owners(read_models).values()) == [(1, "Grace", 2)] * 2 + [(1, "Ada", 1)] * 3


def test_another_relay_resumes_a_rename_from_its_cursor(
    five_items: None,
    outbox: Outbox,
    make_relay: MakeRelay,
    watch: Callable[[], Watched],
    read_models: Database[Document],
) -> None:
    outbox.user(1, 2, "Grace")
    make_relay(**STEPS).run_once()

    database, commands = watch()
    resumed = make_relay(database, **STEPS)
    assert resumed.run_once().unfinished == 1
    (step,) = commands.named("find")[-1:]
    assert step["filter"] == {"owner.id": 1, "_id": {"$gt": 2}}
    assert resumed.run_once().settled == 1
    assert set(owners(read_models).values()) == {(1, "Grace", 2)}
    assert outbox.ids() == []


def test_a_waiter_is_told_only_after_the_last_step(
    five_items: None, outbox: Outbox, make_relay: MakeRelay, postgres: psycopg.Connection
) -> None:
    postgres.execute(f"LISTEN {SETTLED_CHANNEL}")
    rename = outbox.user(1, 2, "Grace", awaited=True)
    relay = make_relay(**STEPS)
    told: list[list[str]] = []
    for _ in range(3):
        relay.run_once()
        told.append([notification.payload.split()[1] for notification in postgres.notifies(timeout=0.05)])

    assert told == [[], [], [str(rename)]]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 7, 100])
def test_renames_of_several_owners_reach_every_item_wherever_a_step_ends(
    outbox: Outbox, make_relay: MakeRelay, read_models: Database[Document], step: int
) -> None:
    # Ids are dealt out in turn, so that pages end within an owner, between owners and at the last item.
    for item_id in range(1, 8):
        user_id = item_id % 3 + 1
        outbox.item(item_id, owner=owner(user_id, 1, "old"))
    for user_id in (3, 1, 2):
        outbox.user(user_id, 2, "new")
    relay = make_relay(fan_out_step=step, fan_out_budget_seconds=0)
    relay.run_once()
    # A newer version joins an older one that is half-way; a fresh owner joins one that has begun.
    outbox.user(2, 3, "newest")
    outbox.item(8, owner=owner(4, 1, "old"))
    outbox.user(4, 2, "new")

    drain(relay)

    newest = {1: ("new", 2), 2: ("newest", 3), 3: ("new", 2), 4: ("new", 2)}
    assert owners(read_models) == {i: (u, *newest[u]) for i, u in [(n, n % 3 + 1) for n in range(1, 8)] + [(8, 4)]}
    assert outbox.ids() == []


def test_an_awaited_rename_in_steps_goes_on_at_once_beside_a_bulk_import(
    five_items: None, outbox: Outbox, make_relay: MakeRelay
) -> None:
    # The lane that serves waiting clients finds its next step again without waiting for a sweep.
    relay = make_relay(**STEPS, awaited_only=True, batch_size=10)
    relay.run_once()
    outbox.bulk(100, first=1000)
    rename = outbox.user(1, 2, "Grace", awaited=True)

    for _ in range(3):
        relay.run_once()

    assert rename not in outbox.ids()
    assert len(outbox.ids()) == 100


def test_the_steps_of_a_rename_walk_the_index_of_owners(
    outbox: Outbox, make_relay: MakeRelay, watch: Callable[[], Watched], read_models: Database[Document]
) -> None:
    for item_id in range(1, 200):
        outbox.item(item_id, owner=owner(item_id % 20 + 1, 1, "old"))
    drain(make_relay())
    for user_id in range(1, 11):
        outbox.user(user_id, 2, "new")
    database, commands = watch()
    relay = make_relay(database, **STEPS)
    relay.run_once()
    relay.run_once()

    for find in [c for c in commands.named("find") if c["find"] == "items_read"]:
        command = {k: find[k] for k in ("find", "filter", "projection", "sort", "limit", "hint") if k in find}
        plan = read_models.command("explain", command, verbosity="executionStats")
        text = str(plan["queryPlanner"]["winningPlan"])
        assert "COLLSCAN" not in text
        assert "'SORT'" not in text
        assert plan["executionStats"]["totalKeysExamined"] <= 2 + 10 + 2


def test_an_item_that_cannot_take_its_owner_takes_only_that_message_along(
    relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.user(1)
    outbox.user(2)
    outbox.item(1, owner=ADA)
    outbox.item(2, owner=OTHER)
    drain(relay)
    read_models.command("collMod", "items_read", validator={"owner.name": {"$ne": "Refused"}})
    refused = outbox.user(1, 2, "Refused")
    outbox.user(2, 2, "Accepted")

    counts = relay.run_once()

    assert (counts.failed, counts.settled) == (1, 1)
    ((failed, state, error),) = outbox.failures()
    assert (failed, state) == (refused, "retrying")
    assert "Document failed validation" in error
    assert owners(read_models) == {1: (1, "Ada", 1), 2: (2, "Accepted", 2)}

    # The other side: an item that finds such an owner at its look.
    refused = outbox.item(3, owner=ADA)
    neighbour = outbox.item(4, owner=OTHER)
    relay.run_once()
    assert [failure[0] for failure in outbox.failures()][-1] == refused
    assert neighbour not in outbox.ids()
