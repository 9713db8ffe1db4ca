"""The handshake: a database whose files were put back in time is told from the one it was."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import psycopg
import pytest
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from projector.handshake import Handshake, shake_hands
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.installation import (
    ForeignReadModelsError,
    InstallationChangedError,
    adopt_read_models,
    check_read_models,
    mark_read_models,
)
from shared.mongo import Document
from shared.postgres import connect
from tests.fixtures.relays import Commands, Outbox, Watched, drain, projecting
from tests.fixtures.waiting import wait_until


def handshake_of(postgres: psycopg.Connection) -> int:
    row = postgres.execute("SELECT number FROM handshake").fetchone()
    assert row
    return int(row[0])


def mark_of(read_models: Database[Document]) -> Document:
    """Return the mark as the primary has it, whether or not a majority has it, too."""
    mark = read_models.get_collection("meta", read_concern=ReadConcern("local")).find_one({})
    assert mark
    return mark


def numbers_of(read_models: Database[Document]) -> Document:
    mark = mark_of(read_models)
    return {name: mark[name] for name in ("agreed", "proposed")}


@pytest.fixture
def settled(relay: Relay, outbox: Outbox) -> Relay:
    """A relay that has settled a message and stays connected."""
    outbox.user(1)
    drain(relay)
    return relay


def test_both_sides_record_the_same_number(
    settled: Relay, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    for number in (1, 2, 3):
        shake_hands(postgres, read_models)
        assert handshake_of(postgres) == number
        assert numbers_of(read_models) == {"agreed": number, "proposed": number}
    check_read_models(postgres, read_models)


@pytest.mark.parametrize(
    ("went_back", "numbers"),
    [("PostgreSQL", "MongoDB has 3, PostgreSQL has 2"), ("MongoDB", "MongoDB has 2, PostgreSQL has 3")],
)
def test_whichever_went_back_by_one_handshake_is_named(
    settled: Relay, postgres: psycopg.Connection, read_models: Database[Document], went_back: str, numbers: str
) -> None:
    shake_hands(postgres, read_models)
    shake_hands(postgres, read_models)
    before = mark_of(read_models)
    shake_hands(postgres, read_models)
    if went_back == "PostgreSQL":
        postgres.execute("UPDATE handshake SET number = 2")
    else:
        read_models["meta"].replace_one({}, before)

    with pytest.raises(ForeignReadModelsError, match=rf"{went_back} was restored .*{numbers}.*clean_mongo"):
        check_read_models(postgres, read_models)
    with pytest.raises(ForeignReadModelsError):
        shake_hands(postgres, read_models)
    assert handshake_of(postgres) == (2 if went_back == "PostgreSQL" else 3)


def test_a_projector_that_dies_before_the_commit_of_a_handshake_leaves_nothing_that_looks_like_a_loss(
    settled: Relay,
    postgres: psycopg.Connection,
    settings: ProjectorSettings,
    read_models: Database[Document],
    watch: Callable[[], Watched],
) -> None:
    shake_hands(postgres, read_models)
    watched, commands = watch()
    with connect(settings, "test", autocommit=True) as dying:
        commands.before_next(
            "update", "meta", lambda: postgres.execute("SELECT pg_terminate_backend(%s)", (dying.info.backend_pid,))
        )
        with pytest.raises(psycopg.OperationalError):
            shake_hands(dying, watched)
    assert handshake_of(postgres) == 1
    assert numbers_of(read_models) == {"agreed": 1, "proposed": 2}

    check_read_models(postgres, read_models)
    shake_hands(postgres, read_models)
    check_read_models(postgres, read_models)


def test_a_projector_that_dies_after_the_commit_of_a_handshake_leaves_nothing_that_looks_like_a_loss(
    settled: Relay, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    shake_hands(postgres, read_models)
    shake_hands(postgres, read_models)
    read_models["meta"].update_one({}, {"$set": {"agreed": 1}})  # as it is before the last write

    check_read_models(postgres, read_models)
    shake_hands(postgres, read_models)
    assert numbers_of(read_models) == {"agreed": 3, "proposed": 3}
    check_read_models(postgres, read_models)


def test_of_two_that_adopt_the_read_models_the_second_does_not_take_back_a_handshake(
    postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    seen = check_read_models(postgres, read_models)
    adopt_read_models(postgres, read_models)
    shake_hands(postgres, read_models)
    mark_read_models(postgres, read_models, seen)
    check_read_models(postgres, read_models)


def test_a_handshake_between_the_two_looks_of_a_check_is_no_doubt(
    settled: Relay, postgres: psycopg.Connection, read_models: Database[Document], watch: Callable[[], Watched]
) -> None:
    watched, commands = watch()

    def twice() -> None:
        shake_hands(postgres, read_models)
        shake_hands(postgres, read_models)

    commands.before_next("find", "meta", twice)
    assert check_read_models(postgres, watched).handshake == 2


def test_hands_are_shaken_before_a_batch_is_settled_and_after_it(
    settings: ProjectorSettings, outbox: Outbox, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projector.handshake.EVERY_SECONDS", 3600.0)
    with projecting(settings):
        for user_id in (1, 2):
            outbox.user(user_id)
            wait_until(lambda: outbox.ids() == [], "it is settled")
            assert handshake_of(postgres) == 1
    assert handshake_of(postgres) == 2

    monkeypatch.setattr("projector.handshake.EVERY_SECONDS", 1.0)
    with projecting(settings):
        outbox.user(3)
        wait_until(lambda: handshake_of(postgres) == 4, "hands are shaken before the next batch and after it")
        time.sleep(1.0)
        outbox.user(4)
        wait_until(lambda: handshake_of(postgres) == 6, "and before the next and after it")
    assert handshake_of(postgres) == 6


@pytest.fixture
def shaking(
    make_relay: Callable[..., Relay],
    settings: ProjectorSettings,
    outbox: Outbox,
    watch: Callable[[], Watched],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Relay, Commands]]:
    """A relay that has shaken hands, never a short while ago, and what it sends to MongoDB."""
    monkeypatch.setattr("projector.handshake.EVERY_SECONDS", 0.0)
    database, commands = watch()
    handshake = Handshake(settings, "test", database)
    relay = make_relay(database, before_writing=handshake.before_writing, before_settling=handshake.before_settling)
    outbox.user(1)
    drain(relay)
    commands.sent.clear()
    yield relay, commands
    handshake._close()  # noqa: SLF001 - at the end of its own loop, which does not run here


def test_after_a_rest_a_batch_does_not_wait_for_hands_to_write_but_to_be_settled(
    shaking: tuple[Relay, Commands], outbox: Outbox, postgres: psycopg.Connection
) -> None:
    relay, commands = shaking
    message, before = outbox.user(2), handshake_of(postgres)
    commands.before_next("update", "meta", lambda: seen.append(outbox.ids()))
    seen: list[list[int]] = []

    assert relay.run_once().settled == 1

    assert [(name, command[name]) for name, command in commands.sent] == [
        ("find", "meta"), ("insert", "users_read"), ("update", "meta"), ("update", "meta"),
    ]  # fmt: skip
    assert seen == [[message]]
    assert handshake_of(postgres) == before + 1


SOMEBODY_ELSES: Final = {"$set": {"timeline": 2, "agreed": 77, "proposed": 77}}


def test_nothing_is_written_where_hands_cannot_be_shaken(
    shaking: tuple[Relay, Commands], outbox: Outbox, read_models: Database[Document]
) -> None:
    # A deposed primary with a projector of its own: its connections last, and the read models are another's by now.
    relay, _ = shaking
    read_models["meta"].update_one({}, SOMEBODY_ELSES)
    message = outbox.user(2)

    for _ in range(2):
        with pytest.raises(ForeignReadModelsError):
            relay.run_once()
    assert outbox.ids() == [message]
    assert read_models["users_read"].count_documents({"_id": 2}) == 0


def test_nothing_is_settled_where_hands_cannot_be_shaken_any_more(
    shaking: tuple[Relay, Commands], outbox: Outbox, read_models: Database[Document]
) -> None:
    relay, commands = shaking
    commands.before_next("insert", "users_read", lambda: read_models["meta"].update_one({}, SOMEBODY_ELSES))
    message = outbox.user(2)

    with pytest.raises(ForeignReadModelsError):
        relay.run_once()
    assert outbox.ids() == [message]


@pytest.fixture
def put_back(
    relay: Relay,
    outbox: Outbox,
    postgres: psycopg.Connection,
    read_models: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> Relay:
    """A relay that has nothing to do, so that every step is a look, and MongoDB was put back in time just now."""
    monkeypatch.setattr("projector.relay.HEARTBEAT_SECONDS", 0.0)
    outbox.user(1)
    drain(relay)
    shake_hands(postgres, read_models)
    before = mark_of(read_models)
    shake_hands(postgres, read_models)
    relay.run_once()
    read_models["meta"].replace_one({}, before)
    return relay


def test_an_idle_lane_notices_that_something_was_restored_into_a_server_that_goes_on(
    put_back: Relay,
) -> None:
    with pytest.raises(InstallationChangedError, match="what MongoDB holds was replaced"):
        put_back.run_once()
    with pytest.raises(ForeignReadModelsError, match="MongoDB was restored"):
        put_back.run_once()


def test_an_idle_lane_notices_a_mongod_that_was_started_anew(put_back: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projector.delivery.primary_process", lambda _: "another process")

    with pytest.raises(ForeignReadModelsError, match="MongoDB was restored"):
        put_back.run_once()


def test_a_projector_that_settled_nothing_shakes_no_hands(
    settings: ProjectorSettings, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    stop = threading.Event()
    stop.set()
    Handshake(settings, "test", read_models).run(stop, on_refused=lambda: None)
    assert handshake_of(postgres) == 0


def test_lanes_look_anew_when_somebody_else_has_the_read_models(
    settings: ProjectorSettings, outbox: Outbox, read_models: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A deposed primary with a projector of its own: its connections last, and the read models have been adopted.
    monkeypatch.setattr("projector.handshake.EVERY_SECONDS", 0.01)
    with projecting(settings):
        outbox.user(1)
        wait_until(lambda: outbox.ids() == [], "it is settled")
        read_models["meta"].update_one({}, {"$set": {"timeline": 2, "agreed": 77, "proposed": 77}})

        def held() -> bool:
            outbox.user(2)
            return len(outbox.ids()) > 3

        wait_until(held, "nothing is settled any more")


def test_nothing_is_settled_by_a_mongod_that_nobody_has_looked_at(
    make_relay: Callable[..., Relay], outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = threading.Event()
    monkeypatch.setattr(
        "projector.delivery.primary_process", lambda _: "another process" if replaced.is_set() else "a process"
    )
    relay = make_relay(before_settling=replaced.set)
    message = outbox.user(1)

    with pytest.raises(InstallationChangedError, match="MongoDB's primary was replaced"):
        relay.run_once()
    assert outbox.ids() == [message]
    assert drain(relay).settled == 1
