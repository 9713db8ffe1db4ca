"""What is in flight is never reported as drift, however busy both sides are."""

import threading
from collections.abc import Callable
from functools import partial
from itertools import combinations_with_replacement
from typing import Any

import psycopg
import pytest

from projector.drift import Drift
from projector.projections.registry import PROJECTIONS
from projector.relay import Relay
from projector.settings import ProjectorSettings
from projector.sides import Sides
from projector.verify import compare
from tests.fixtures.relays import Outbox, Watched, drain, projecting
from tests.integration.projector.conftest import Commands, ReadModels, Rows

LOOKS = ("rows_after", "documents_after", "rows_of", "in_flight", "documents_of")

Action = Callable[[], object]


class BetweenLooks:
    """Does something before the n-th look of a comparison, whichever it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._actions: list[tuple[int, Action]] = []
        self.looks = 0
        for name in LOOKS:
            monkeypatch.setattr(Sides, name, self._watched(getattr(Sides, name)))

    def plan(self, *actions: tuple[int, Action]) -> None:
        """Forget what was planned, and count from zero again."""
        self.looks, self._actions = 0, list(actions)

    def _watched(self, look: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **keywords: Any) -> Any:
            for action in [action for number, action in self._actions if number == self.looks]:
                action()
            self.looks += 1
            return look(*arguments, **keywords)

        return watched


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> BetweenLooks:
    return BetweenLooks(monkeypatch)


@pytest.fixture
def shop(rows: Rows, shown: ReadModels) -> tuple[int, list[int]]:
    """A user with many items, in rows and documents alike."""
    user_id = rows.user("Ada", version=2)
    item_ids = [rows.item(user_id, version=3) for _ in range(30)]
    shown.fill()
    return user_id, item_ids


def found(shown: ReadModels, aggregate_type: str, *, deep: bool) -> list[Drift]:
    projection = PROJECTIONS[aggregate_type]
    return list(compare(shown.connection, shown.collection(aggregate_type), projection, deep=deep))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("change", ["a user", "an item", "the owner", "a new item", "a deleted item"])
def test_a_command_that_commits_and_settles_between_any_two_looks_is_no_drift(
    shop: tuple[int, list[int]],
    shown: ReadModels,
    commands: Commands,
    between: BetweenLooks,
    change: str,
    *,
    deep: bool,
) -> None:
    user_id, item_ids = shop
    changes: dict[str, Action] = {
        "a user": lambda: commands.rename("user", user_id, "Ada L."),
        "an item": lambda: commands.rename("item", item_ids[0], "Gouda"),
        "the owner": lambda: commands.rename("user", user_id, "Ada L."),
        "a new item": lambda: commands.create_item(user_id),
        "a deleted item": lambda: commands.delete("item", item_ids.pop()),
    }
    aggregate_type = "user" if change == "a user" else "item"
    reached = 0
    # Seven looks when something differs: two at pages, then the row, messages, the owner's, document, and row.
    for commit_at, settle_at in combinations_with_replacement(range(9), 2):
        between.plan((commit_at, changes[change]), (settle_at, partial(drain, shown.relay)))
        assert found(shown, aggregate_type, deep=deep) == [], (commit_at, settle_at)
        reached = max(reached, between.looks)
        between.plan()
        if commit_at < 7:
            drain(shown.relay)
        assert found(shown, aggregate_type, deep=deep) == []
    assert reached >= 7


def test_a_second_command_between_any_two_looks_at_what_the_first_one_changed_is_no_drift(
    shop: tuple[int, list[int]], shown: ReadModels, commands: Commands, between: BetweenLooks
) -> None:
    rename = partial(commands.rename, "user", shop[0], "Ada L.")
    settle = partial(drain, shown.relay)
    # The first one makes it differ at the first look, and is settled before the second.
    for commit_at, settle_at in combinations_with_replacement(range(2, 8), 2):
        between.plan((0, rename), (2, settle), (commit_at, rename), (settle_at, settle))
        assert found(shown, "user", deep=False) == [], (commit_at, settle_at)
        between.plan()
        drain(shown.relay)


@pytest.mark.parametrize("where", ["outbox", "claimed", "retrying"])
def test_a_message_on_its_way_is_no_drift_wherever_it_is(
    shop: tuple[int, list[int]],
    shown: ReadModels,
    commands: Commands,
    settings: ProjectorSettings,
    where: str,
) -> None:
    user_id, item_ids = shop
    commands.create_user()
    commands.rename("user", user_id, "Ada L.")
    commands.delete("item", item_ids[0])
    commands.create_item(user_id)
    with psycopg.connect(settings.database_url.get_secret_value()) as claiming:
        if where == "claimed":
            claiming.execute("DELETE FROM outbox")
        elif where == "retrying":
            commands.connection.execute(
                "WITH moved AS (DELETE FROM outbox RETURNING *) INSERT INTO outbox_failures (id, aggregate_type,"
                " aggregate_id, aggregate_version, event_type, payload, created_at, state, attempts, error,"
                " next_attempt_at) SELECT id, aggregate_type, aggregate_id, aggregate_version, event_type, payload,"
                " created_at, 'retrying', 1, 'x', now() FROM moved"
            )
        for deep in (False, True):
            assert [*found(shown, "user", deep=deep), *found(shown, "item", deep=deep)] == []
        claiming.rollback()


def test_a_rename_that_is_carried_to_its_items_in_steps_is_no_drift(
    shop: tuple[int, list[int]], shown: ReadModels, commands: Commands, make_relay: Callable[..., Relay]
) -> None:
    user_id, item_ids = shop
    commands.rename("user", user_id, "Ada L.")
    slow = make_relay(fan_out_step=10, fan_out_budget_seconds=0)
    for _ in range(2):
        assert slow.run_once().unfinished == 1
        assert found(shown, "item", deep=True) == []
    assert slow.run_once().settled == 1
    assert {shown.document("item", item_id)["owner"]["name"] for item_id in item_ids} == {"Ada L."}


def test_an_owner_on_its_way_hides_no_other_drift_of_its_items(
    shop: tuple[int, list[int]], shown: ReadModels, commands: Commands
) -> None:
    user_id, item_ids = shop
    shown.lose("item", item_ids[0])
    shown.spoil("item", item_ids[1], name="wrong")
    shown.spoil("item", item_ids[2], **{"owner.version": 1})
    commands.rename("user", user_id, "Ada L.")
    drifts = found(shown, "item", deep=True)
    assert [(drift.kind, drift.aggregate_id) for drift in drifts] == [
        ("missing", item_ids[0]),
        ("different", item_ids[1]),
    ]


def test_what_changes_between_every_two_looks_is_in_flight(
    shop: tuple[int, list[int]], postgres: psycopg.Connection, shown: ReadModels, between: BetweenLooks
) -> None:
    user_id, _ = shop

    def change() -> None:
        postgres.execute("UPDATE users SET version = version + 1 WHERE id = %s", (user_id,))

    between.plan(*((look, change) for look in range(100)))
    assert found(shown, "user", deep=False) == []
    assert between.looks > 7


def test_documents_are_looked_at_as_they_are_after_all_that_is_settled(
    shop: tuple[int, list[int]], postgres: psycopg.Connection, watch: Callable[[], Watched], outbox: Outbox
) -> None:
    # A member that is behind waits until it has caught up, see "Causal Consistency" in MongoDB's manual.
    database, sent = watch()
    database["users_read"].update_one({"_id": shop[0]}, {"$set": {"version": 1}})
    sent.sent.clear()
    assert len(list(compare(postgres, database["users_read"], PROJECTIONS["user"]))) == 1
    (settled,) = postgres.execute("SELECT max(operation_time) FROM projectors").fetchone() or ()
    read_at = sent.named("find")[-1]["readConcern"]["afterClusterTime"]
    assert (read_at.time << 32 | read_at.inc) >= settled


def test_beside_writers_and_relays_at_full_speed_nothing_is_reported(
    settings: ProjectorSettings, rows: Rows, shown: ReadModels, postgres: psycopg.Connection
) -> None:
    users = [rows.user() for _ in range(4)]
    items = [rows.item(user_id) for user_id in users for _ in range(10)]
    shown.fill()
    errors: list[BaseException] = []

    def write(writer: int) -> None:
        mine = items[writer::2]
        try:
            with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
                commands = Commands(connection)
                for n in range(60):
                    commands.rename("user", users[writer], f"Ada {n}")
                    commands.rename("item", mine[n % len(mine)], f"thing {n}")
                    mine.append(commands.create_item(users[(writer + n) % 4]))
                    commands.delete("item", mine.pop(0))
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(2)]
    with projecting(settings):
        for writer in writers:
            writer.start()
        rounds = 0
        while any(writer.is_alive() for writer in writers) or rounds < 3:
            assert [*found(shown, "user", deep=True), *found(shown, "item", deep=bool(rounds % 2))] == []
            rounds += 1
        for writer in writers:
            writer.join()
    assert errors == []
