"""Verify finds what differs for good, names its reason, and holds one page of either side at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from pymongo.errors import OperationFailure

from projector import sides
from projector.backlog import IN_FLIGHT
from projector.drift import Drift
from projector.projections.registry import PROJECTIONS
from projector.relay import Relay
from projector.verify import compare
from shared.mongo import create_client, read_model_database
from tests.fixtures.relays import Outbox, Watched, drain
from tests.integration.projector.conftest import OwnServers, ReadModels, Rows, migrate


@pytest.fixture
def seven(rows: Rows, shown: ReadModels) -> list[int]:
    """Seven users, in rows and documents alike."""
    ids = [rows.user(version=2) for _ in range(7)]
    shown.fill()
    return ids


@pytest.fixture
def shop(rows: Rows, shown: ReadModels) -> tuple[int, int]:
    """A user with one item, in rows and documents alike; their ids."""
    user_id = rows.user("Ada", version=2)
    item_id = rows.item(user_id, "Brie", version=3, tags=("cheese", "soft"), description="ripe")
    shown.fill()
    return user_id, item_id


def found(shown: ReadModels, aggregate_type: str = "user", *, deep: bool = False) -> list[Drift]:
    projection = PROJECTIONS[aggregate_type]
    return list(compare(shown.connection, shown.collection(aggregate_type), projection, deep=deep))


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The sizes of pages to go through, each set when it is taken."""

    def sizes() -> Iterator[int]:
        for size in (1, 2, 3, 7, 8, 5000):
            monkeypatch.setattr(sides, "PAGE", size)
            monkeypatch.setattr(sides, "DEEP_PAGE", size)
            yield size

    return sizes()


@pytest.mark.parametrize("deep", [False, True])
def test_every_kind_of_drift_is_found_whatever_the_page(
    pages: Iterator[int], seven: list[int], shown: ReadModels, *, deep: bool
) -> None:
    shown.lose("user", seven[0])
    shown.spoil("user", seven[2], version=1)
    shown.spoil("user", seven[4], version=9)
    shown.connection.execute("DELETE FROM users WHERE id = %s", (seven[6],))
    for stranger in (-5, 1000):
        shown.collection("user").insert_one({**shown.document("user", seven[1]), "_id": stranger})

    expected = [
        Drift("orphaned", "user", -5, None, 2),
        Drift("missing", "user", seven[0], 2, None),
        Drift("stale", "user", seven[2], 2, 1),
        Drift("different", "user", seven[4], 2, 9, ("version",)),
        Drift("orphaned", "user", seven[6], None, 2),
        Drift("orphaned", "user", 1000, None, 2),
    ]
    for size in pages:
        assert found(shown, deep=deep) == expected, size


@pytest.mark.parametrize("deep", [False, True])
def test_without_drift_every_aggregate_is_compared_once(
    pages: Iterator[int], seven: list[int], shown: ReadModels, *, deep: bool
) -> None:
    users = shown.collection("user")
    for size in pages:
        counted: list[int] = []
        assert list(compare(shown.connection, users, PROJECTIONS["user"], deep=deep, on_page=counted.append)) == []
        assert sum(counted) == 7
        assert max(counted) <= size


@pytest.mark.parametrize("deep", [False, True])
def test_pages_bound_what_is_held_of_either_side(
    seven: list[int],
    shown: ReadModels,
    postgres: psycopg.Connection,
    watch: Callable[[], Watched],
    monkeypatch: pytest.MonkeyPatch,
    *,
    deep: bool,
) -> None:
    # Seven rows, none of which has a document, and seven documents without a row.
    shown.connection.execute("UPDATE users SET id = DEFAULT")
    monkeypatch.setattr(sides, "DEEP_PAGE" if deep else "PAGE", 2)
    sizes: list[int] = []
    for name in ("rows_after", "rows_of"):
        original = getattr(sides.Sides, name)
        monkeypatch.setattr(sides.Sides, name, _sized(original, sizes))
    database, commands = watch()
    projection = PROJECTIONS["user"]

    assert len(list(compare(postgres, database["users_read"], projection, deep=deep))) == 14

    pages = [find["limit"] for find in commands.named("find") if "$gt" in find["filter"]["_id"]]
    again = [len(find["filter"]["_id"]["$in"]) for find in commands.named("find") if "$in" in find["filter"]["_id"]]
    # What differs may be a page of rows and a page of documents, which are looked at again together.
    assert set(pages) == {2}
    assert max(again) <= 4
    assert max(sizes) <= 4
    assert commands.named("getMore") == []


def _sized(look: Callable[..., dict[int, Any]], sizes: list[int]) -> Callable[..., dict[int, Any]]:
    def sized(*arguments: Any, **keywords: Any) -> dict[int, Any]:
        rows = look(*arguments, **keywords)
        sizes.append(len(rows))
        return rows

    return sized


def test_every_field_is_compared_by_deep_alone(shop: tuple[int, int], shown: ReadModels) -> None:
    user_id, item_id = shop
    for aggregate_type, aggregate_id, change in [
        ("user", user_id, {"name": "Eve"}),
        ("user", user_id, {"email": "eve@example.org"}),
        ("item", item_id, {"name": "Gouda"}),
        ("item", item_id, {"description": None}),
        ("item", item_id, {"quality": 3}),
        ("item", item_id, {"tags": ["soft", "cheese"]}),
        ("item", item_id, {"owner.name": "Eve"}),
        ("item", item_id, {"created_at": shown.document("user", user_id)["created_at"]}),
    ]:
        before = shown.document(aggregate_type, aggregate_id)
        shown.spoil(aggregate_type, aggregate_id, **change)
        assert found(shown, aggregate_type) == []
        (drift,) = found(shown, aggregate_type, deep=True)
        assert (drift.kind, drift.fields) == ("different", (next(iter(change)).partition(".")[0],))
        shown.collection(aggregate_type).replace_one({"_id": aggregate_id}, before)
    assert [*found(shown, deep=True), *found(shown, "item", deep=True)] == []


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("owner", "ahead"), [({"owner.version": 1}, False), ({"owner.version": 5}, True), ({"owner.id": 9}, False)]
)
def test_an_item_that_embeds_another_version_of_its_owner_is_different(
    shop: tuple[int, int], shown: ReadModels, owner: dict[str, int], *, deep: bool, ahead: bool
) -> None:
    user_id, item_id = shop
    shown.spoil("item", item_id, **owner)
    expected = Drift("different", "item", item_id, 3, 3, ("owner",), (user_id, 5) if ahead else None)
    assert found(shown, "item", deep=deep) == [expected]


def test_a_tombstone_is_no_drift_unless_its_row_lives(
    seven: list[int], shown: ReadModels, relay: Relay, outbox: Outbox
) -> None:
    shown.connection.execute("DELETE FROM users WHERE id = %s", (seven[0],))
    outbox.deleted("user", seven[0], 3)
    outbox.deleted("user", 1000, 3)
    drain(relay)
    assert found(shown) == []

    outbox.deleted("user", seven[1], 3)
    drain(relay)
    assert found(shown) == [Drift("different", "user", seven[1], 2, 3, ("deleted_at",))]


@pytest.mark.parametrize("state", ["dead", "discarded"])
def test_a_message_that_failed_for_good_is_named_as_the_reason(
    shop: tuple[int, int], shown: ReadModels, outbox: Outbox, state: str
) -> None:
    user_id, item_id = shop
    shown.connection.execute("UPDATE users SET version = 3")
    message = outbox.bury("user", user_id, 3, state)
    assert found(shown) == [Drift("stale", "user", user_id, 3, 2, dead_letter=message)]
    # The items that embed the user are not what it should be either, and for the same reason.
    (drift,) = found(shown, "item")
    assert drift == Drift("different", "item", item_id, 3, 3, ("owner",), dead_letter=message)
    assert str(drift) == (
        f"item {item_id} is different in owner: row version 3, document version 3, "
        f"for message {message} failed: `projector dead-letters show {message}`"
    )


def test_the_look_at_messages_finds_them_by_an_index_however_many_there_are(
    postgres: psycopg.Connection, outbox: Outbox
) -> None:
    outbox.bulk(20_000)
    postgres.execute("ANALYZE outbox")
    values = {"type": "user", "ids": list(range(1, 200))}
    plan = "\n".join(row[0] for row in postgres.execute(f"EXPLAIN {IN_FLIGHT}", values))
    assert "ix_outbox_aggregate_id" in plan
    assert "Seq Scan on outbox " not in plan


@pytest.mark.parametrize("code", [43, 175])
def test_a_page_is_read_again_when_the_collection_was_swapped_meanwhile(own_servers: OwnServers, code: int) -> None:
    settings = own_servers.settings
    migrate(settings)
    url = settings.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection, create_client(settings, "test") as client:
        user_id = Rows(connection).user()
        users = read_model_database(client, settings)["users_read"]
        own_servers.fail({"times": 2}, failCommands=["find"], errorCode=code)
        assert list(compare(connection, users, PROJECTIONS["user"])) == [Drift("missing", "user", user_id, 1, None)]
        own_servers.fail("alwaysOn", failCommands=["find"], errorCode=code)
        with pytest.raises(OperationFailure):
            list(compare(connection, users, PROJECTIONS["user"]))
