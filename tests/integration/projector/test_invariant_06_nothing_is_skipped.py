"""Invariant 6: claiming is by row state, not by "id greater than last seen". A late commit is not lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from pymongo.database import Database

from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.process import LANES, Projector
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.mongo import Document
from shared.postgres import WAKE_CHANNEL
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.waiting import wait_until


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def position(clock: Clock) -> ClaimPosition:
    return ClaimPosition(clock)


@pytest.fixture
def stepped(settings: ProjectorSettings, read_models: Database[Document], position: ClaimPosition) -> Iterator[Relay]:
    changed = settings.model_copy(update={"batch_size": 10})
    relay = Relay(
        changed,
        lambda: open_relay_connection(changed, "relay", read_models),
        Delivery.of(changed, read_models),
        position,
    )
    yield relay
    relay.close()


@contextmanager
def open_transaction(settings: ProjectorSettings) -> Iterator[Outbox]:
    """An outbox whose messages are not committed before the end."""
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        yield Outbox(connection)


def test_a_late_commit_with_a_lower_id_is_found_by_the_next_sweep(
    settings: ProjectorSettings, stepped: Relay, outbox: Outbox, clock: Clock
) -> None:
    with open_transaction(settings) as late:
        lower = late.user(1)
        higher = outbox.user(2)
        assert lower < higher
        assert drain(stepped).settled == 1
    assert stepped.run_once().claimed == 0  # the hint is past it

    clock.now += 1
    assert stepped.run_once().settled == 1
    assert outbox.ids() == []


def test_a_late_commit_with_a_lower_id_is_found_at_once_when_it_wakes(
    settings: ProjectorSettings, stepped: Relay, outbox: Outbox, position: ClaimPosition
) -> None:
    with open_transaction(settings) as late:
        lower = late.user(1)
        outbox.user(2)
        drain(stepped)

    position.take_back(lower)
    assert stepped.run_once().settled == 1


def test_a_late_commit_of_many_messages_takes_one_sweep_and_not_one_for_each_batch(
    settings: ProjectorSettings, stepped: Relay, outbox: Outbox, clock: Clock
) -> None:
    with open_transaction(settings) as late:
        late.bulk(100)
        outbox.user(200)
        drain(stepped)

    clock.now += 1
    assert drain(stepped).settled == 100


def test_a_whole_projector_finds_a_late_commit_without_a_wake(
    running_projector: Projector, settings: ProjectorSettings, outbox: Outbox
) -> None:
    with open_transaction(settings) as late:
        late.user(1)
        outbox.user(2)
        wait_until(lambda: outbox.ids() == [], "the later message is settled")
    assert len(outbox.ids()) == 1
    wait_until(lambda: outbox.ids() == [], "the late commit is settled")


@pytest.mark.parametrize("payload", ["1", "", "nonsense", "-5", "٣"])
def test_an_idle_projector_is_woken_by_any_notification(
    settings: ProjectorSettings, outbox: Outbox, payload: str
) -> None:
    stop = threading.Event()
    sleepy = settings.model_copy(update={"poll_interval_seconds": 60})
    projector = Projector(sleepy, stop)
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(projector.run()))
    thread.start()
    try:
        _wait_until_it_listens(outbox.connection)
        outbox.user(1)
        outbox.connection.execute("SELECT pg_notify(%s, %s)", (WAKE_CHANNEL, payload))
        wait_until(lambda: outbox.ids() == [], "the wake ends the sleep")
        # A second one: the listener has survived the first.
        outbox.user(2)
        outbox.connection.execute("SELECT pg_notify(%s, %s)", (WAKE_CHANNEL, payload))
        wait_until(lambda: outbox.ids() == [], "the second wake ends the sleep")
    finally:
        stop.set()
        thread.join(20)
    assert ended == [True]


def test_the_listener_comes_back_after_its_connection_was_lost(settings: ProjectorSettings, outbox: Outbox) -> None:
    stop = threading.Event()
    projector = Projector(settings.model_copy(update={"poll_interval_seconds": 60}), stop)
    thread = threading.Thread(target=projector.run)
    thread.start()
    try:
        _wait_until_it_listens(outbox.connection)
        outbox.connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        # What came while nobody listened is found when it listens again; the wake for it is lost.
        outbox.user(1)
        wait_until(lambda: outbox.ids() == [], "the message is settled")
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def _wait_until_it_listens(connection: psycopg.Connection) -> None:
    listening = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'"
    )
    wait_until(lambda: connection.execute(listening).fetchone() == (1,), "the projector listens")
    lanes = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'kata-projector%' AND query NOT LIKE 'LISTEN%' AND state = 'idle'"
    )
    wait_until(lambda: connection.execute(lanes).fetchone() == (LANES,), "the lanes are idle")
