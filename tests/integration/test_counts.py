"""What each hot path costs, in what does not depend on the machine: statements, round trips, MongoDB's commands.

A number here that grows is a decision; one that shrinks is an occasion to lower it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from pymongo.database import Database
from sqlalchemy.engine import make_url

from api.consistency import settlements
from api.settings import ApiSettings
from projector import claims
from projector import relay as relay_module
from projector.process import Projector
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.mongo import Document
from tests.fixtures.clients import ApiClient, item_body, serving
from tests.fixtures.postgres_traffic import Counted, PostgresTraffic
from tests.fixtures.relays import Outbox, Watched, drain

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def traffic(database_url: str) -> Iterator[PostgresTraffic]:
    """A proxy before this test's PostgreSQL."""
    url = make_url(database_url)
    with PostgresTraffic((str(url.host), url.port or 5432)) as proxy:
        yield proxy


def through(url: str, proxy: PostgresTraffic) -> str:
    return make_url(url).set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)


@pytest.fixture
def counted_api(
    api_settings: ApiSettings, traffic: PostgresTraffic, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ApiClient]:
    """An API whose statements are counted, with a user, and an item of his with known tags."""
    # What comes by the clock, once a second, comes not: it looks at the installation when somebody waits just then.
    monkeypatch.setattr(settlements, "CHECK_SECONDS", 600.0)
    url = type(api_settings.database_url)(through(database_url, traffic))
    with serving(api_settings.model_copy(update={"database_url": url, "database_pool_size": 1})) as api:
        api.new_user(**ASYNC)
        for _ in range(2):  # the second finds the statements prepared, and the tags
            assert api.post("/items", json=item_body(1), headers=ASYNC).status_code == 202
        yield api


def cost(traffic: PostgresTraffic, send: Callable[[], Any]) -> tuple[int, int]:
    """Return statements and round trips of a request that was sent before, and is again."""
    with traffic.busiest() as counted:
        send()
    return counted.statements, counted.round_trips


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        # BEGIN, the rows, the message, COMMIT.
        ("POST", "/users", {"name": "Eve", "email": "eve{}@example.org"}, (4, 4)),
        ("PUT", "/users/1", {"name": "Ada {}"}, (5, 5)),
        # With the item comes its owner; one statement more for the tags.
        ("POST", "/items", item_body(1), (5, 5)),
        ("PUT", "/items/1", {"quality": 7}, (7, 7)),
        ("PUT", "/items/1", {"tags": ["cheese"]}, (8, 8)),
    ],
    ids=["a new user", "a new name", "a new item", "a changed item", "changed tags"],
)
def test_a_command_costs_so_many_statements(
    counted_api: ApiClient, traffic: PostgresTraffic, method: str, path: str, body: dict[str, Any],
    expected: tuple[int, int],
) -> None:  # fmt: skip
    def send(number: int) -> None:
        filled = {name: value.format(number) if isinstance(value, str) else value for name, value in body.items()}
        assert counted_api.request(method, path, json=filled, headers=ASYNC).status_code == 202

    send(1)
    assert cost(traffic, lambda: send(2)) == expected


def test_a_write_that_waits_costs_a_notification_in_the_round_trip_of_its_commit(
    counted_api: ApiClient, traffic: PostgresTraffic, running_projector: Projector
) -> None:
    def send() -> None:
        assert counted_api.post("/items", json=item_body(1)).status_code == 201

    send()
    assert cost(traffic, send) == (6, 5)


def test_a_read_with_a_token_costs_one_statement_and_one_without_none(
    counted_api: ApiClient, traffic: PostgresTraffic, running_projector: Projector
) -> None:
    token = counted_api.post("/items", json=item_body(1)).headers["consistency-token"]
    for _ in range(2):
        assert counted_api.get("/items/1", headers={"Consistency-Token": token}).status_code == 200
    assert cost(traffic, lambda: counted_api.get("/items/1", headers={"Consistency-Token": token})) == (1, 1)
    assert cost(traffic, lambda: counted_api.get("/items/1")) == (0, 0)
    assert cost(traffic, lambda: counted_api.get("/items?tag=cheese")) == (0, 0)


@pytest.fixture
def counted_relay(
    settings: ProjectorSettings, traffic: PostgresTraffic, make_relay: Callable[..., Any],
    watch: Callable[[], Watched], database_url: str, outbox: Outbox, monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], tuple[Counted, list[str]]]]:  # fmt: skip
    """Steps a relay once; returns what it cost PostgreSQL, and the commands that MongoDB got."""
    # What comes by the clock, at most once a second, comes not.
    monkeypatch.setattr(claims, "DUE_SECONDS", 600.0)
    monkeypatch.setattr(relay_module, "HEARTBEAT_SECONDS", 600.0)
    database, commands = watch()
    url = type(settings.database_url)(through(database_url, traffic))
    with ExitStack() as stack:
        relay = make_relay(database, database_url=url)
        stack.callback(relay.close)
        outbox.user(1)
        drain(relay)

        def step() -> tuple[Counted, list[str]]:
            commands.sent.clear()
            with traffic.busiest() as counted:
                relay.run_once()
            return counted, [name for name, _ in commands.sent]

        yield step


def test_an_empty_poll_costs_so_much(counted_relay: Callable[[], tuple[Counted, list[str]]]) -> None:
    counted, commands = counted_relay()
    # BEGIN, hold the read models and claim; look for what failed and is due; ROLLBACK.
    assert (counted, commands) == (Counted(6, 3), [])


@pytest.mark.parametrize("count", [1, 500])
def test_a_batch_costs_as_much_however_many_messages_it_has(
    counted_relay: Callable[[], tuple[Counted, list[str]]], outbox: Outbox, count: int
) -> None:
    for number in range(1, count + 1):
        outbox.item(number)
    counted, commands = counted_relay()
    # One command stores the items. That their owners are as they embed them is a condition of their settlement.
    assert commands == ["insert"]
    assert counted == Counted(8, 2)

    for number in range(1, count + 1):
        outbox.item(number, 2)
    counted, commands = counted_relay()
    assert commands == ["update"]
    assert counted == Counted(8, 2)


def test_an_item_whose_owner_moved_on_costs_a_look_and_a_correction(
    counted_relay: Callable[[], tuple[Counted, list[str]]], outbox: Outbox, postgres: psycopg.Connection
) -> None:
    outbox.user(1, 2)
    counted_relay()
    postgres.execute(
        "INSERT INTO users (id, version, name, email) OVERRIDING SYSTEM VALUE VALUES (1, 2, 'Ada', 'ada@example.org')"
    )
    outbox.item(1)
    counted, commands = counted_relay()
    assert commands == ["insert", "find", "update"]
    # The settlement is refused as a whole, taken back, and sent once more without the condition.
    assert counted == Counted(11, 4)


def test_what_begins_in_a_batch_is_inserted_at_its_newest_version(
    counted_relay: Callable[[], tuple[Counted, list[str]]], outbox: Outbox, read_models: Database[Document]
) -> None:
    for version in (1, 2, 3, 4):
        outbox.item(1, version)
    _, commands = counted_relay()
    assert commands == ["insert"]
    assert read_models["items_read"].find_one({"_id": 1}, {"version": 1}) == {"_id": 1, "version": 4}


def test_a_read_by_id_is_one_command_and_so_is_a_page(
    api: ApiClient, relay: Relay, outbox: Outbox, read_models: Database[Document]
) -> None:
    outbox.item(1)
    drain(relay)
    read_models.command("profile", 2)
    for path in ("/items/1", "/items?tag=a", "/items?limit=1000"):
        assert api.get(path).status_code == 200
    read_models.command("profile", 0)
    asked = [entry["op"] for entry in read_models["system.profile"].find({"ns": f"{read_models.name}.items_read"})]
    assert asked == ["query"] * 3
