"""Verify finds what differs for good, and takes neither tombstones nor what is in flight for drift."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from pymongo.database import Database

from projector import verify
from projector.projections.registry import PROJECTIONS
from projector.relay import Relay
from projector.replay import Replay
from projector.settings import ProjectorSettings
from projector.verify import Drift, compare
from shared.mongo import Document
from tests.fixtures.relays import Outbox, Watched, drain
from tests.integration.projector.conftest import Rows, run_cli


@pytest.fixture
def seven(rows: Rows, settings: ProjectorSettings, read_models: Database[Document]) -> list[int]:
    """Seven users, in rows and documents alike."""
    from projector.connection import open_relay_connection  # noqa: PLC0415 - replay is only the way to fill them

    ids = [rows.user(version=2) for _ in range(7)]
    connection, installation = open_relay_connection(settings, "test", read_models)
    with connection:
        Replay(connection, installation, read_models, 10).run(["user"], lambda *_: None)
    return ids


def found(postgres: psycopg.Connection, read_models: Database[Document]) -> list[Drift]:
    return list(compare(postgres, read_models, PROJECTIONS["user"]))


@pytest.fixture(params=[1, 2, 3, 7, 8, 5000])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    monkeypatch.setattr(verify, "PAGE", size)
    return size


def test_every_kind_of_drift_is_found_whatever_the_page(
    page: int, seven: list[int], postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    users = read_models["users_read"]
    users.delete_one({"_id": seven[0]})
    users.update_one({"_id": seven[2]}, {"$set": {"version": 1}})
    users.update_one({"_id": seven[4]}, {"$set": {"version": 9}})
    postgres.execute("DELETE FROM users WHERE id = %s", (seven[6],))
    users.insert_one({**_document(users.find_one({"_id": seven[1]})), "_id": 1000})

    assert found(postgres, read_models) == [
        Drift("missing", "user", seven[0], 2, None),
        Drift("stale", "user", seven[2], 2, 1),
        Drift("ahead", "user", seven[4], 2, 9),
        Drift("orphaned", "user", seven[6], None, 2),
        Drift("orphaned", "user", 1000, None, 2),
    ]


def test_without_drift_every_row_is_compared_once(
    page: int, seven: list[int], postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    counted: list[int] = []
    assert list(compare(postgres, read_models, PROJECTIONS["user"], counted.append)) == []
    assert sum(counted) == 7
    assert max(counted) <= page


def test_pages_are_bounded_on_both_sides(
    seven: list[int], postgres: psycopg.Connection, watch: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "PAGE", 2)
    database, commands = watch()
    assert found(postgres, database) == []
    assert {find["limit"] for find in commands.named("find")} == {2}
    assert commands.named("getMore") == []


def test_a_tombstone_is_no_drift_unless_its_row_lives(
    seven: list[int], postgres: psycopg.Connection, read_models: Database[Document], relay: Relay, outbox: Outbox
) -> None:
    postgres.execute("DELETE FROM users WHERE id = %s", (seven[0],))
    outbox.deleted("user", seven[0], 3)
    outbox.deleted("user", 1000, 3)
    drain(relay)
    assert found(postgres, read_models) == []

    outbox.deleted("user", seven[1], 3)
    drain(relay)
    assert found(postgres, read_models) == [Drift("ahead", "user", seven[1], 2, 3)]


@pytest.mark.parametrize("where", ["outbox", "claimed", "retrying"])
def test_what_is_in_flight_is_no_drift(
    seven: list[int],
    postgres: psycopg.Connection,
    read_models: Database[Document],
    outbox: Outbox,
    settings: ProjectorSettings,
    where: str,
) -> None:
    postgres.execute("UPDATE users SET version = 3 WHERE id = %s", (seven[0],))
    postgres.execute("DELETE FROM users WHERE id = %s", (seven[1],))
    created = Rows(postgres).user()
    outbox.user(seven[0], 3)
    outbox.deleted("user", seven[1], 3)
    outbox.user(created)
    with psycopg.connect(settings.database_url.get_secret_value()) as claiming:
        if where == "claimed":
            claiming.execute("DELETE FROM outbox")
        elif where == "retrying":
            postgres.execute(
                "WITH moved AS (DELETE FROM outbox RETURNING *) INSERT INTO outbox_failures (id, aggregate_type,"
                " aggregate_id, aggregate_version, event_type, payload, created_at, state, attempts, error,"
                " next_attempt_at) SELECT id, aggregate_type, aggregate_id, aggregate_version, event_type, payload,"
                " created_at, 'retrying', 1, 'x', now() FROM moved"
            )
        assert found(postgres, read_models) == []
        claiming.rollback()


def test_a_dead_letter_is_drift(
    seven: list[int], postgres: psycopg.Connection, read_models: Database[Document], relay: Relay, outbox: Outbox
) -> None:
    postgres.execute("UPDATE users SET version = 3 WHERE id = %s", (seven[0],))
    outbox.append("user", seven[0], 3, "exploded", {})
    drain(relay)
    assert found(postgres, read_models) == [Drift("stale", "user", seven[0], 3, 2)]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_message_settled_between_two_looks_is_no_drift(
    at: int,
    seven: list[int],
    postgres: psycopg.Connection,
    relay: Relay,
    outbox: Outbox,
    watch: Callable[[], Watched],
) -> None:
    # The row has changed, its message is settled just before the document is looked at for the n-th time.
    database, commands = watch()
    looks = 0

    def change() -> None:
        nonlocal looks
        looks += 1
        if looks == at:
            postgres.execute("UPDATE users SET version = version + 1 WHERE id = %s", (seven[0],))
            outbox.user(seven[0], 3)
            drain(relay)
        commands.before_next("find", "users_read", change)

    read_other_side = database["users_read"]
    read_other_side.update_one({"_id": seven[0]}, {"$set": {"version": 1}})
    commands.before_next("find", "users_read", change)
    drift = found(postgres, database)

    # Before the change it was stale for good; whoever looked before it says so, and nobody says anything false.
    assert drift in ([], [Drift("stale", "user", seven[0], 2, 1)])
    assert (drift == []) == (at <= 2)


def test_what_changes_between_every_two_looks_is_in_flight(
    seven: list[int], postgres: psycopg.Connection, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()

    def change() -> None:
        postgres.execute("UPDATE users SET version = version + 1 WHERE id = %s", (seven[0],))
        commands.before_next("find", "users_read", change)

    commands.before_next("find", "users_read", change)
    assert found(postgres, database) == []


def test_the_command_verify_says_what_differs_and_exits_with_1(
    seven: list[int], settings: ProjectorSettings, read_models: Database[Document]
) -> None:
    done = run_cli(settings, "verify", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"drift": 0, "users": {"compared": 7}, "items": {"compared": 0}}

    read_models["users_read"].delete_many({})
    done = run_cli(settings, "verify", "users", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"drift": 7, "users": {"compared": 7, "missing": 7}}
    assert f"user {seven[0]} is missing: row version 2, document version None" in done.stderr


def test_the_command_verify_refuses_read_models_of_another_installation(
    seven: list[int], settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    postgres.execute("UPDATE installation SET id = gen_random_uuid()")
    done = run_cli(settings, "verify")
    assert done.returncode == 1
    assert "python api/scripts/clean_mongo.py" in done.stderr
    assert "Traceback" not in done.stderr


def _document(document: dict[str, Any] | None) -> dict[str, Any]:
    assert document
    return document
