"""Faults: databases restart, fall silent, are missing at first. A projector waits, says so, and goes on by itself."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from projector.bell import Bell
from projector.connection import open_relay_connection
from projector.deadline import DeadlinePassedError
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.process import LANES, Projector
from projector.relay import Relay
from projector.retry import TRANSIENT
from projector.settings import ProjectorSettings
from projector.shutdown import StopSignals
from shared.mongo import create_client, read_model_database
from shared.postgres import connect
from tests.fixtures.relays import Outbox
from tests.fixtures.runbook import procedure, run_procedure
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, ProjectorProcess, environment_of, migrate, run_cli

StartProjector = Callable[..., ProjectorProcess]


def append_users(settings: ProjectorSettings, first: int, count: int) -> None:
    with connect(settings, "test", autocommit=True) as connection:
        Outbox(connection).bulk(count, first)


def backlog(settings: ProjectorSettings) -> int:
    with connect(settings, "test", autocommit=True) as connection:
        return len(Outbox(connection).ids())


def stored(settings: ProjectorSettings) -> int:
    with MongoClient(settings.mongo_url.get_secret_value()) as client:
        return client[settings.mongo_database]["users_read"].count_documents({})


def test_a_projector_survives_restarts_of_both_databases_and_loses_nothing(
    own_servers: OwnServers, start_projector: StartProjector
) -> None:
    settings = own_servers.settings
    migrate(settings)
    projector = start_projector(settings)
    projector.wait_ready()
    append_users(settings, 1, 100)
    wait_until(lambda: backlog(settings) == 0, "the first messages are settled")

    own_servers.postgres.stop()
    wait_until(lambda: projector.ready().status_code == 503, "the projector has noticed")
    wait_until(lambda: all(lane["state"] == "waiting" for lane in projector.ready().json()["lanes"]), "lanes wait")
    assert "OperationalError" in projector.reasons()
    assert projector.ready().json()["status"] == "not ready"
    own_servers.postgres.restart()
    projector.wait_ready()
    append_users(settings, 101, 100)
    wait_until(lambda: backlog(settings) == 0, "messages are settled after PostgreSQL came back")

    own_servers.mongod.stop()
    append_users(settings, 201, 100)
    wait_until(lambda: projector.ready().status_code == 503, "the projector has noticed")
    assert "connection" in projector.reasons().lower() or "refused" in projector.reasons().lower()
    assert backlog(settings) == 100
    own_servers.mongod.restart()
    projector.wait_ready()
    wait_until(lambda: backlog(settings) == 0, "messages are settled after MongoDB came back")

    assert stored(settings) == 300
    assert projector.events("relay.recovered")
    assert not projector.events("projector.broke_off")
    assert projector.end() == 0


def test_a_projector_started_before_its_databases_and_tables_waits_and_says_so(
    own_servers: OwnServers, start_projector: StartProjector
) -> None:
    settings = own_servers.settings
    own_servers.mongod.stop()
    own_servers.postgres.stop()
    projector = start_projector(settings)
    projector.wait_started()
    wait_until(lambda: "Connection refused" in projector.reasons(), "it says that PostgreSQL is away")
    assert projector.ready().status_code == 503

    own_servers.postgres.restart()
    wait_until(lambda: "run `alembic upgrade head`" in projector.reasons(), "it says that there are no tables")
    assert projector.ready().status_code == 503

    done = run_procedure(procedure("`/ready` says: the write model has no tables"), environment_of(settings))
    assert done.returncode == 0, done.stderr
    append_users(settings, 1, 1)
    wait_until(lambda: "ServerSelectionTimeoutError" in projector.reasons(), "it says that MongoDB is away")
    assert projector.ready().status_code == 503

    own_servers.mongod.restart()
    projector.wait_ready()
    wait_until(lambda: backlog(settings) == 0, "it goes on by itself")
    assert projector.end() == 0


def test_a_migration_that_changes_a_column_under_a_connected_relay_is_a_transient_fault(
    relay: Relay, outbox: Outbox
) -> None:
    for user_id in range(1, 8):  # often enough for psycopg to prepare the statements on the server
        outbox.user(user_id)
        relay.run_once()
    outbox.user(8)
    outbox.connection.execute("ALTER TABLE outbox ALTER COLUMN aggregate_version TYPE bigint")

    with pytest.raises(TRANSIENT):
        relay.run_once()
    assert relay.run_once().settled == 1


def test_a_mongodb_that_falls_silent_ends_the_batch_at_its_deadline(own_servers: OwnServers) -> None:
    settings = own_servers.settings.model_copy(update={"batch_deadline_seconds": 1})
    migrate(settings)
    with create_client(settings, "relay") as client:
        database = read_model_database(client, settings)
        relay = Relay(
            settings,
            lambda: open_relay_connection(settings, "relay", database),
            Delivery.of(settings, database),
            ClaimPosition(),
        )
        relay.run_once()
        append_users(settings, 1, 3)
        os.kill(own_servers.mongod.pid, signal.SIGSTOP)
        try:
            with pytest.raises((PyMongoError, DeadlinePassedError)):
                relay.run_once()
            assert backlog(settings) == 3
            # The next attempt opens and checks anew, against a server that is still silent.
            with pytest.raises((PyMongoError, DeadlinePassedError)):
                relay.run_once()
        finally:
            os.kill(own_servers.mongod.pid, signal.SIGCONT)

        def settled() -> bool:
            try:
                relay.run_once()
            except (PyMongoError, DeadlinePassedError, psycopg.OperationalError):
                return False
            return backlog(settings) == 0

        wait_until(settled, "the batch is settled once MongoDB answers")
        relay.close()


def test_sigterm_drains_the_batch_in_flight_and_exits_with_0(
    start_projector: StartProjector, settings: ProjectorSettings, outbox: Outbox
) -> None:
    _drains(signal.SIGTERM, 0, start_projector(), settings, outbox)


def test_sigint_drains_too_and_exits_with_130(
    start_projector: StartProjector, settings: ProjectorSettings, outbox: Outbox
) -> None:
    _drains(signal.SIGINT, 130, start_projector(), settings, outbox)


def _drains(
    number: int, exit_code: int, projector: ProjectorProcess, settings: ProjectorSettings, outbox: Outbox
) -> None:
    projector.wait_ready()
    with psycopg.connect(settings.database_url.get_secret_value()) as blocker:
        blocker.execute("LOCK TABLE outbox_failures IN ACCESS EXCLUSIVE MODE")
        outbox.user(1)
        wait_until(lambda: stored(settings), "the batch is written and waits to be settled")
        projector.process.send_signal(number)
        wait_until(lambda: projector.events("projector.draining"), "it drains")
        assert projector.process.poll() is None
        assert len(outbox.ids()) == 1
    assert projector.process.wait(20) == exit_code
    assert outbox.ids() == []
    assert projector.events("projector.stopped")


def settling(connection: psycopg.Connection) -> object:
    """Return whether a settlement was sent, and waits for a lock."""
    return connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query LIKE '%EXECUTE settle%'"
    ).fetchone()


def test_a_second_signal_ends_a_drain_at_once(
    start_projector: StartProjector, settings: ProjectorSettings, outbox: Outbox
) -> None:
    projector = start_projector()
    projector.wait_ready()
    with psycopg.connect(settings.database_url.get_secret_value()) as blocker:
        blocker.execute("LOCK TABLE outbox_failures IN ACCESS EXCLUSIVE MODE")
        outbox.user(1)
        wait_until(lambda: settling(outbox.connection), "the batch is written, and the server has its settlement")
        projector.process.send_signal(signal.SIGTERM)
        wait_until(lambda: projector.events("projector.draining"), "it drains")
        assert projector.end(signal.SIGTERM) == -signal.SIGTERM
        assert len(outbox.ids()) == 1
    wait_until(lambda: outbox.ids() == [], "the server has done what it was sent")
    assert stored(settings)


def test_an_idle_projector_with_a_long_poll_interval_stops_at_once(
    start_projector: StartProjector, settings: ProjectorSettings
) -> None:
    projector = start_projector(settings.model_copy(update={"poll_interval_seconds": 60}))
    projector.wait_ready()
    assert projector.end() == 0
    assert projector.events("projector.stopped")


def test_a_stop_that_comes_just_before_the_bell_is_hushed_is_heard(make_relay: Callable[..., Relay]) -> None:
    stop = threading.Event()

    class LateBell(Bell):
        """The stop comes, and opens the bell, when the lane has just asked whether to stop."""

        def hush(self) -> None:
            stop.set()
            self.open()
            super().hush()

    relay = make_relay(poll_interval_seconds=60)
    begun = time.monotonic()
    relay.run(stop, LateBell(), on_batch=lambda _: None, on_fault=lambda *_: None)
    assert time.monotonic() - begun < 30


def test_a_stop_while_it_waits_for_a_database_is_heard(
    own_servers: OwnServers, start_projector: StartProjector
) -> None:
    projector = start_projector(own_servers.settings)  # not migrated
    projector.wait_started()
    wait_until(lambda: projector.events("relay.waiting"), "it waits")
    assert projector.end() == 0


def test_an_error_of_ours_in_a_lane_ends_the_process_with_1_and_a_traceback(
    settings: ProjectorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = StopSignals()
    projector = Projector(settings, signals.stop)

    def break_off(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("projector.batch.Batch.claim", break_off)

    assert projector.run() is False
    assert signals.stop.is_set()


def test_a_port_that_is_taken_is_said_in_one_sentence(settings: ProjectorSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_cli(settings, "run", PROJECTOR_HTTP_PORT=port)
    assert done.returncode == 2
    assert done.stderr.strip() == f"127.0.0.1:{port}: Address already in use"


def test_the_console_answers_health_readiness_and_metrics(
    start_projector: StartProjector, settings: ProjectorSettings, outbox: Outbox, postgres: psycopg.Connection
) -> None:
    projector = start_projector()
    projector.wait_ready()
    outbox.user(1)
    wait_until(lambda: outbox.ids() == [], "the message is settled")
    wait_until(lambda: projector.ready().status_code == 200, "ready")

    body = projector.ready().json()
    assert body["status"] == "ready"
    assert body["lanes"] == [{"state": "relaying", "reason": ""}] * LANES
    assert (body["backlog"], body["lag_seconds"]) == (0, 0)
    assert projector.get("/health").json() == {"status": "ok"}
    assert 'kata_relay_messages_total{outcome="settled"} 1.0' in projector.get("/metrics").text

    postgres.execute(
        "INSERT INTO outbox_failures (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload,"
        " created_at, state, attempts, error, next_attempt_at)"
        " VALUES (1, 'item', 1, 1, 'item.created', '{}', now() - interval '1 hour', 'retrying', 1, 'x', now())"
    )
    degraded = projector.ready()
    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    assert degraded.json()["lag_seconds"] >= 3600
