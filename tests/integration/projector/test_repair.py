"""A repair is a message that says the row once more: it mends what is not newer, and never takes anything back."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pymongo.database import Database

from projector.relay import Relay
from projector.repair import append_repairs, shown_versions
from projector.settings import ProjectorSettings
from shared.mongo import Document
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ReadModels, Rows


class Repairing(ReadModels):
    """Appends repairs for what the read models show, and lets a relay deliver them."""

    def append(self, aggregate_type: str, *ids: int) -> int:
        """Append the repairs of these aggregates."""
        shown = shown_versions(self.collection(aggregate_type), ids)
        return append_repairs(self.connection, aggregate_type, shown)

    def repair(self, aggregate_type: str, *ids: int) -> None:
        """Append the repairs of these aggregates and deliver them."""
        assert self.append(aggregate_type, *ids) == len(ids)
        drain(self.relay)


@pytest.fixture
def repairing(postgres: psycopg.Connection, read_models: Database[Document], relay: Relay) -> Repairing:
    return Repairing(postgres, read_models, relay)


@pytest.fixture
def shop(rows: Rows, repairing: Repairing) -> tuple[int, int]:
    """A user with one item, in rows and documents; their ids."""
    user_id = rows.user("Ada", version=2)
    item_id = rows.item(user_id, "Brie", version=3, tags=("cheese",))
    repairing.repair("user", user_id)
    repairing.repair("item", item_id)
    assert repairing.document("item", item_id)["owner"]["name"] == "Ada"
    return user_id, item_id


DRIFTS = ("missing", "stale", "different at the same version", "ahead", "a tombstone", "a tombstone ahead")


@pytest.mark.parametrize("aggregate_type", ["user", "item"])
def test_a_repair_mends_every_kind_of_drift(repairing: Repairing, shop: tuple[int, int], aggregate_type: str) -> None:
    aggregate_id = shop[aggregate_type == "item"]
    for drift in DRIFTS:
        before = repairing.document(aggregate_type, aggregate_id)
        row_version = before["version"]
        spoil(repairing, aggregate_type, before, drift)

        repairing.repair(aggregate_type, aggregate_id)

        # What stood ahead of its row is mended by a row that stands above it.
        version = {"ahead": 10, "a tombstone ahead": row_version + 2}.get(drift, row_version)
        assert repairing.document(aggregate_type, aggregate_id) == before | {"version": version}, drift
        statement = f"SELECT version FROM {aggregate_type}s WHERE id = %s"
        assert repairing.connection.execute(statement.encode(), (aggregate_id,)).fetchone() == (version,)


def spoil(repairing: Repairing, aggregate_type: str, before: dict[str, Any], drift: str) -> None:
    """Make the document differ in this way."""
    collection, aggregate_id = repairing.collection(aggregate_type), before["_id"]
    match drift:
        case "missing":
            repairing.lose(aggregate_type, aggregate_id)
        case "stale":
            repairing.spoil(aggregate_type, aggregate_id, name="old", version=1)
        case "different at the same version":
            repairing.spoil(aggregate_type, aggregate_id, name="wrong")
        case "ahead":
            repairing.spoil(aggregate_type, aggregate_id, name="wrong", version=9)
        case _:
            version = before["version"] + drift.endswith("ahead")
            tombstone = {"_id": aggregate_id, "version": version, "deleted_at": before["created_at"]}
            collection.replace_one({"_id": aggregate_id}, tombstone)


@pytest.mark.parametrize("aggregate_type", ["user", "item"])
def test_a_first_version_is_repaired_too(repairing: Repairing, rows: Rows, aggregate_type: str) -> None:
    user_id = rows.user("Ada")
    aggregate_id = user_id if aggregate_type == "user" else rows.item(user_id)
    repairing.repair(aggregate_type, aggregate_id)
    before = repairing.document(aggregate_type, aggregate_id)
    repairing.spoil(aggregate_type, aggregate_id, name="wrong")
    repairing.repair(aggregate_type, aggregate_id)
    assert repairing.document(aggregate_type, aggregate_id) == before


def test_an_orphan_gets_a_tombstone_that_no_message_on_its_way_survives(
    repairing: Repairing, shop: tuple[int, int], outbox: Outbox, relay: Relay
) -> None:
    _, item_id = shop
    poison = outbox.bury("item", item_id, 7)
    repairing.connection.execute("DELETE FROM items WHERE id = %s", (item_id,))
    outbox.item(item_id, 5)

    repairing.append("item", item_id)
    drain(relay)

    assert {key: repairing.document("item", item_id).get(key) for key in ("version", "name")} == {
        "version": 8,
        "name": None,
    }
    assert "deleted_at" in repairing.document("item", item_id)
    assert poison not in [failure[0] for failure in outbox.failures()]


def test_of_what_neither_side_has_there_is_nothing_to_repair(
    repairing: Repairing, rows: Rows, settings: ProjectorSettings
) -> None:
    with psycopg.connect(settings.database_url.get_secret_value()) as command:
        # The row is there in a moment, and a tombstone would hide it.
        uncommitted = Rows(command).user()
        assert repairing.append("user", uncommitted, 1000) == 0
        command.commit()
    repairing.repair("user", uncommitted)
    assert repairing.document("user", uncommitted)["name"] == "Ada"


@pytest.mark.parametrize("user_version", [1, 2])
def test_a_users_repair_reaches_the_items_that_embed_the_same_version_or_a_lower_one(
    make_relay: Callable[..., Relay], repairing: Repairing, rows: Rows, user_version: int
) -> None:
    user_id, another = rows.user("Ada", version=user_version), rows.user("Bob")
    ids = [rows.item(user_id) for _ in range(5)]
    others = rows.item(another)
    repairing.repair("user", user_id, another)
    repairing.repair("item", *ids, others)
    for item_id in ids:
        repairing.spoil("item", item_id, **{"owner.name": "wrong"})
    repairing.spoil("item", others, **{"owner.name": "wrong"})

    repairing.append("user", user_id)
    # An item a step, a step a batch: the message keeps its row and its cursor in between.
    assert drain(make_relay(fan_out_step=1, fan_out_budget_seconds=0)).unfinished == 4

    assert {repairing.document("item", item_id)["owner"]["name"] for item_id in ids} == {"Ada"}
    assert repairing.document("item", others)["owner"]["name"] == "wrong"


def test_a_late_repair_takes_nothing_newer_back(
    repairing: Repairing, shop: tuple[int, int], outbox: Outbox, relay: Relay
) -> None:
    user_id, item_id = shop
    repairing.append("user", user_id)
    repairing.append("item", item_id)
    repairs = repairing.connection.execute(
        "WITH held AS (DELETE FROM outbox RETURNING *) SELECT event_type, aggregate_id, aggregate_version, payload"
        " FROM held ORDER BY id"
    ).fetchall()
    outbox.user(user_id, 3, "Ada L.")
    outbox.item(item_id, 4, name="Camembert", owner=outbox.owners[user_id])
    drain(relay)
    newer = repairing.document("user", user_id), repairing.document("item", item_id)
    for event_type, aggregate_id, version, payload in repairs:
        aggregate_type, _, happened = event_type.partition(".")
        outbox.append(aggregate_type, aggregate_id, version, happened, payload)
    drain(relay)

    assert outbox.failures() == []
    assert (repairing.document("user", user_id), repairing.document("item", item_id)) == newer
    assert newer[1]["owner"]["name"] == "Ada L."


@pytest.mark.parametrize("repair_first", [True, False])
def test_in_one_batch_with_a_message_of_its_version_the_repair_is_written(
    repairing: Repairing, shop: tuple[int, int], outbox: Outbox, relay: Relay, *, repair_first: bool
) -> None:
    _, item_id = shop
    before = repairing.document("item", item_id)
    repairing.spoil("item", item_id, name="wrong")
    if repair_first:
        repairing.append("item", item_id)
    outbox.item(item_id, 3, name="not the row's")
    if not repair_first:
        repairing.append("item", item_id)

    counts = relay.run_once()

    assert (counts.claimed, counts.settled) == (2, 2)
    assert repairing.document("item", item_id) == before


def test_a_settled_repair_removes_failures_of_its_own_version_and_an_ordinary_message_does_not(
    repairing: Repairing, shop: tuple[int, int], outbox: Outbox, relay: Relay
) -> None:
    _, item_id = shop
    dead, newer = outbox.bury("item", item_id, 3), outbox.bury("item", item_id, 4)
    outbox.item(item_id, 3)
    drain(relay)
    assert [failure[0] for failure in outbox.failures()] == [dead, newer]

    repairing.repair("item", item_id)
    assert [failure[0] for failure in outbox.failures()] == [newer]


def test_a_repair_that_fails_is_a_failure_although_the_read_model_shows_its_version(
    repairing: Repairing, shop: tuple[int, int], outbox: Outbox, relay: Relay
) -> None:
    _, item_id = shop
    schema = {"$jsonSchema": {"properties": {"name": {"enum": ["wrong"]}}}}
    repairing.spoil("item", item_id, name="wrong")
    repairing.database.command("collMod", "items_read", validator=schema)
    repairing.append("item", item_id)

    assert relay.run_once().settled == 0
    assert len(outbox.failures()) == 1

    # Once the read model shows a newer version, it is pointless.
    repairing.connection.execute("DELETE FROM outbox_failures")
    repairing.append("item", item_id)
    repairing.database.command("collMod", "items_read", validator={})
    repairing.spoil("item", item_id, version=4)
    repairing.database.command("collMod", "items_read", validator=schema)
    assert relay.run_once().settled == 1


def test_a_repair_waits_for_the_command_that_holds_the_row_and_carries_what_it_committed(
    repairing: Repairing, shop: tuple[int, int], settings: ProjectorSettings, rows: Rows
) -> None:
    _, item_id = shop
    with psycopg.connect(settings.database_url.get_secret_value()) as command:
        command.execute("UPDATE items SET name = 'Camembert', version = 4 WHERE id = %s", (item_id,))
        command.execute("DELETE FROM item_tags WHERE item_id = %s", (item_id,))
        with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as own:
            pid = own.info.backend_pid
            thread = threading.Thread(target=append_repairs, args=(own, "item", {item_id: 3}))
            thread.start()
            waits = "SELECT true FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
            wait_until(
                lambda: repairing.connection.execute(waits, (pid,)).fetchone() or not thread.is_alive(),
                "the repair waits, or is appended",
            )
            command.commit()
            thread.join()
    drain(repairing.relay)
    shown = repairing.document("item", item_id)
    assert (shown["version"], shown["name"], shown["tags"]) == (4, "Camembert", [])


def test_repairs_are_appended_in_the_callers_transaction_or_not_at_all(
    repairing: Repairing, shop: tuple[int, int], outbox: Outbox
) -> None:
    with repairing.connection.transaction(force_rollback=True):
        assert repairing.append("item", shop[1]) == 1
    assert outbox.ids() == []
