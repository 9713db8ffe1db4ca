"""Invariant 5: crash-safe without leases. A killed projector's rows unlock by themselves, and nothing is lost."""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
from pymongo.database import Database

from projector import connection
from projector import outbox as outbox_module
from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.relay import Relay
from projector.retry import TRANSIENT
from projector.settings import ProjectorSettings
from shared.mongo import Document
from tests.fixtures.relays import Outbox, Watched, drain
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ProjectorProcess

SETTLING = """
    FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%EXECUTE settle(%'
"""


@contextmanager
def killed_while_it_settles(
    projector: ProjectorProcess, settings: ProjectorSettings, outbox: Outbox, read_models: Database[Document]
) -> Iterator[psycopg.Connection]:
    """Yield when a projector was killed whose settlement waits in the server, for this transaction to end."""
    projector.wait_ready()
    with psycopg.connect(settings.database_url.get_secret_value()) as blocker:
        # Settling touches this table, claiming new messages does not.
        blocker.execute("LOCK TABLE outbox_failures IN ACCESS EXCLUSIVE MODE")
        with outbox.connection.transaction():  # in one batch
            outbox.user(1)
            outbox.item(1)
        settling = f"SELECT count(*) {SETTLING}"
        wait_until(lambda: outbox.connection.execute(settling).fetchone() == (1,), "its settlement waits")
        projector.end(signal.SIGKILL)
        yield blocker


def test_a_projector_killed_between_write_and_settle_loses_nothing(
    start_projector: Callable[..., ProjectorProcess],
    settings: ProjectorSettings,
    outbox: Outbox,
    relay: Relay,
    read_models: Database[Document],
) -> None:
    with killed_while_it_settles(start_projector(), settings, outbox, read_models) as blocker:
        # The settlement that was on its way does not arrive.
        blocker.execute(f"SELECT pg_terminate_backend(pid) {SETTLING}")
    assert len(outbox.ids()) == 2

    settled = 0

    def settle() -> bool:
        nonlocal settled
        settled += relay.run_once().settled
        return settled == 2

    wait_until(settle, "the rows are unlocked and another relay settles them")
    assert outbox.ids() == []
    assert read_models["users_read"].count_documents({}) == read_models["items_read"].count_documents({}) == 1


def test_a_relay_whose_transaction_breaks_off_settles_nothing_and_goes_on_with_a_new_connection(
    make_relay: Callable[..., Relay], outbox: Outbox, postgres: psycopg.Connection, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()
    relay = make_relay(database)
    outbox.user(1)
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test relay'"
    commands.before_next("insert", "users_read", lambda: postgres.execute(kill))

    with pytest.raises(psycopg.OperationalError):
        relay.run_once()
    assert len(outbox.ids()) == 1

    counts = relay.run_once()
    assert (counts.stale, counts.settled) == (1, 1)


def test_a_transaction_that_waited_too_long_for_mongodb_is_a_transient_fault(
    settings: ProjectorSettings, outbox: Outbox, watch: Callable[[], Watched], postgres: psycopg.Connection
) -> None:
    database, commands = watch()

    patience: list[bool] = []

    def impatient() -> Any:
        connection, installation = open_relay_connection(settings, "impatient relay", database)
        if not patience:
            connection.execute("SET idle_in_transaction_session_timeout = '100ms'")
            connection.commit()
        return connection, installation

    def until_the_server_gave_up() -> None:
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'impatient relay'"
        wait_until(lambda: postgres.execute(sessions).fetchone() == (0,), "the server ended the session")

    relay = Relay(settings, impatient, Delivery.of(settings, database), ClaimPosition())
    outbox.user(1)
    commands.before_next("insert", "users_read", until_the_server_gave_up)

    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout) as caught:
        relay.run_once()

    assert isinstance(caught.value, TRANSIENT)
    assert len(outbox.ids()) == 1
    patience.append(True)
    assert drain(relay).settled == 1
    relay.close()


def test_what_a_failed_batch_gives_back_is_claimed_at_once_by_another_lane(
    settings: ProjectorSettings,
    outbox: Outbox,
    read_models: Database[Document],
    watch: Callable[[], Watched],
    postgres: psycopg.Connection,
) -> None:
    # Both lanes share a position that has gone past the messages; no sweep is due.
    position = ClaimPosition(clock=lambda: 0.0)
    database, commands = watch()

    def lane(name: str, on: Database[Document]) -> Relay:
        delivery = Delivery.of(settings, on)
        return Relay(settings, lambda: open_relay_connection(settings, name, on), delivery, position)

    with closing(lane("failing", database)) as failing, closing(lane("other", read_models)) as other:
        failing.run_once()
        other.run_once()
        outbox.user(1)
        claimed_meanwhile: list[int] = []

        def fail() -> None:
            # While the failing lane still holds the message, the other passes over it.
            claimed_meanwhile.append(other.run_once().claimed)
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'failing'"
            )

        commands.before_next("insert", "users_read", fail)
        with pytest.raises(psycopg.OperationalError):
            failing.run_once()

        assert claimed_meanwhile == [0]
        assert other.run_once().settled == 1


def test_the_sessions_time_outs_lie_above_the_deadline(settings: ProjectorSettings, make_relay: Any) -> None:
    relay = make_relay(batch_deadline_seconds=7)
    relay.run_once()
    connection, _ = relay._connected()  # noqa: SLF001 - what the server holds of the relay's session
    for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
        assert connection.execute(f"SHOW {name}").fetchone() == ("12s",)


def test_a_settlement_that_was_sent_is_done_although_its_projector_was_killed(
    start_projector: Callable[..., ProjectorProcess],
    settings: ProjectorSettings,
    outbox: Outbox,
    read_models: Database[Document],
) -> None:
    with killed_while_it_settles(start_projector(), settings, outbox, read_models):
        assert len(outbox.ids()) == 2

    wait_until(lambda: outbox.ids() == [], "the server has settled them")
    assert read_models["users_read"].count_documents({}) == read_models["items_read"].count_documents({}) == 1


@pytest.mark.parametrize("outcome", ["failed", "unfinished"])
def test_the_server_ends_a_batch_that_stands_still_after_it_was_recorded(
    outcome: str,
    monkeypatch: pytest.MonkeyPatch,
    make_relay: Callable[..., Relay],
    outbox: Outbox,
    postgres: psycopg.Connection,
) -> None:
    monkeypatch.setattr(connection, "SERVER_MARGIN_SECONDS", 0)
    relay = make_relay(batch_deadline_seconds=1, fan_out_step=1, fan_out_budget_seconds=0)
    outbox.user(1)
    outbox.item(1)
    outbox.item(2)
    drain(relay)
    if outcome == "failed":
        outbox.append("user", 1, 2, "exploded", {})
    else:
        outbox.user(1, 2)
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
    )

    record = outbox_module.record_exceptions

    def stand_still(*arguments: Any) -> Any:
        record(*arguments)
        assert postgres.execute(sessions).fetchone() == (1,)
        wait_until(lambda: postgres.execute(sessions).fetchone() == (0,), "the server has ended the transaction")

    with monkeypatch.context() as slow:
        slow.setattr(outbox_module, "record_exceptions", stand_still)
        with pytest.raises(TRANSIENT):
            relay.run_once()
    assert len(outbox.ids()) == 1
    assert outbox.failures() == []
