"""Attempts: pauses that double, faults that count none, and a message that ends the process, which is found out."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial

import psycopg
import pytest
from pymongo.database import Database

from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.relay import Relay
from projector.settings import ProjectorSettings
from projector.suspects import LIVES, Suspects
from shared.mongo import Document
from tests.fixtures.killed_by_a_message import DEADLY, MODULE
from tests.fixtures.relays import Outbox, Watched, drain
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ProjectorProcess

# The pause until the next attempt, in seconds; the failure was recorded a moment before.
PAUSE = "SELECT extract(epoch FROM next_attempt_at - clock_timestamp())::float8 FROM outbox_failures"
DUE = "UPDATE outbox_failures SET next_attempt_at = clock_timestamp()"
ATTEMPTS = "SELECT attempts FROM outbox UNION ALL SELECT attempts FROM outbox_failures"

MakeLane = Callable[..., Relay]


def test_a_message_that_fails_comes_again_after_pauses_that_double_up_to_a_cap(
    make_relay: Callable[..., Relay], outbox: Outbox, postgres: psycopg.Connection
) -> None:
    relay = make_relay(max_attempts=5, retry_pause_seconds=100)
    outbox.append("item", 7, 1, "exploded", {})
    found = []
    for _ in range(4):
        assert drain(relay).failed == 1
        assert drain(relay).claimed == 0, "it is not due"
        found += postgres.execute(PAUSE).fetchall()
        postgres.execute(DUE)
    for pause, wanted in zip(found, (100, 200, 300, 300), strict=True):
        assert 0 < wanted - pause[0] < 60, found

    assert drain(relay).dead == 1
    assert [state for _, state, _ in outbox.failures()] == ["dead"]
    assert drain(relay).claimed == 0, "nobody tries it again by itself"


def test_what_was_mended_settles_at_its_next_attempt_and_leaves_nothing(
    make_relay: Callable[..., Relay], outbox: Outbox, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    relay = make_relay(max_attempts=5, retry_pause_seconds=100)
    outbox.user(7)
    postgres.execute("UPDATE outbox SET event_type = 'user.exploded'")
    drain(relay)
    postgres.execute("UPDATE outbox_failures SET event_type = 'user.created'")
    postgres.execute(DUE)

    assert drain(relay).settled == 1

    assert (outbox.ids(), outbox.failures()) == ([], [])
    assert read_models["users_read"].count_documents({}) == 1


def test_a_message_that_ends_the_process_is_a_dead_letter_after_a_few_restarts_and_its_neighbours_settle(
    start_projector: Callable[..., ProjectorProcess],
    outbox: Outbox,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    users = range(DEADLY - 5, DEADLY + 6)
    ids = {user_id: outbox.user(user_id) for user_id in users}
    sessions = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'kata-projector%'"
    )
    deaths = 0
    while deaths <= LIVES + 1:
        projector = start_projector(module=MODULE)
        ended = projector.process.poll
        wait_until(lambda: ended() is not None or outbox.ids() == [], "it dies, or gets through", 60)  # noqa: B023 - called at once
        if ended() is None:
            break
        assert ended() == -9
        deaths += 1
        wait_until(lambda: postgres.execute(sessions).fetchone() == (0,), "its sessions are gone")

    # Once with others, then alone.
    assert deaths == 1 + LIVES
    assert outbox.failures() == [(ids[DEADLY], "dead", f"ended the projector's process {LIVES} times")]
    stored = [user["_id"] for user in read_models["users_read"].find().sort("_id", 1)]
    assert stored == [user_id for user_id in users if user_id != DEADLY]
    assert projector.end() == 0


@pytest.fixture
def make_lane(settings: ProjectorSettings, read_models: Database[Document]) -> Iterator[MakeLane]:
    """Makes the only lane of a projector that has just started."""
    with ExitStack() as stack:

        def make(name: str, database: Database[Document] = read_models) -> Relay:
            connect = partial(open_relay_connection, settings, name, database)
            delivery, suspects = Delivery.of(settings, database), Suspects([f"{name} lane 0"], settings.batch_size)
            lane = Relay(settings, connect, delivery, ClaimPosition(), name=f"{name} lane 0", suspects=suspects)
            return stack.enter_context(closing(lane))

        yield make


def end_uncleanly(lane: Relay) -> None:
    """Let a lane be gone without having said so."""
    lane.run_once()
    lane.close()


def test_after_a_clean_end_messages_are_taken_together(make_lane: MakeLane, outbox: Outbox) -> None:
    first = make_lane("first")
    first.run_once()
    first._end()  # noqa: SLF001 - what run() does at its end
    first.close()
    for user_id in (1, 2, 3):
        outbox.user(user_id)
    assert make_lane("second").run_once().claimed == 3


def test_after_an_unclean_end_messages_are_taken_one_by_one_until_those_that_were_there_are_through(
    make_lane: MakeLane, outbox: Outbox
) -> None:
    end_uncleanly(make_lane("first"))
    for user_id in (1, 2, 3):
        outbox.user(user_id)
    second = make_lane("second")
    assert [(counts.claimed, counts.settled) for counts in (second.run_once(), second.run_once())] == [(1, 1)] * 2
    for user_id in (4, 5):
        outbox.user(user_id)
    assert [second.run_once().claimed for _ in range(2)] == [1, 2]


def test_two_lanes_never_have_a_suspect_each_in_hand(
    make_lane: MakeLane, outbox: Outbox, postgres: psycopg.Connection
) -> None:
    end_uncleanly(make_lane("first"))
    ids = [outbox.user(user_id) for user_id in (1, 2)]
    suspects = Suspects(["second lane 0", "second lane 1"], 10)

    assert suspects.are_left(postgres)
    with suspects.one() as in_hand, suspects.one() as other:
        assert (in_hand, other) == (ids[0], None)
    with suspects.one() as in_hand:
        assert in_hand == ids[1]


def test_an_attempt_that_a_fault_ended_does_not_count_for_a_suspect_either(
    make_lane: MakeLane, outbox: Outbox, postgres: psycopg.Connection, watch: Callable[[], Watched]
) -> None:
    end_uncleanly(make_lane("first"))
    outbox.append("user", 7, 1, "created", {})
    database, commands = watch()
    second = make_lane("second", database)
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'second'"
    )
    for _ in range(LIVES + 1):
        # While it looks whether the read model is newer than what failed.
        commands.before_next("find", "users_read", lambda: postgres.execute(kill))
        with pytest.raises(psycopg.OperationalError):
            second.run_once()

    assert second.run_once().failed == 1
    assert postgres.execute(ATTEMPTS).fetchall() == [(1,)]
