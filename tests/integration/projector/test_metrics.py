"""The projector's metrics: what a relay did is what they count."""

from collections.abc import Callable

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from pymongo.database import Database

from projector.installation_metrics import InstallationCollector
from projector.lookout import Lookout
from projector.metrics import RelayMetrics
from projector.phases import PHASES
from projector.relay import BatchCounts, Relay
from projector.settings import ProjectorSettings
from shared.mongo import Document, create_client, read_model_database
from shared.postgres import connect
from tests.fixtures.relays import Outbox, Watched, drain
from tests.fixtures.scrapes import Scrape, scrape_of
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, migrate


def relayed(relay: Relay, metrics: RelayMetrics) -> BatchCounts:
    """Take one step and count it, as the subscriber does."""
    counts = relay.run_once()
    if counts.claimed:
        metrics.batch(counts)
    return counts


def test_each_settled_message_is_counted_once_with_the_time_from_its_command(relay: Relay, outbox: Outbox) -> None:
    metrics = RelayMetrics()
    outbox.user(1)
    outbox.user(1, version=2, name="Bob")
    outbox.connection.execute(
        "UPDATE outbox SET created_at = created_at - interval '1 hour' WHERE aggregate_version = 1"
    )
    relayed(relay, metrics)
    outbox.user(2)
    relayed(relay, metrics)
    relayed(relay, metrics)
    counted = scrape_of(metrics.registry)

    assert counted.total("kata_relay_messages_total", outcome="settled") == 3
    assert counted.total("kata_commit_to_visible_seconds_count") == 3
    assert 3600 <= counted.total("kata_commit_to_visible_seconds_sum") < 3700
    assert counted.total("kata_relay_batch_messages_sum") == 3
    assert counted.total("kata_relay_batch_seconds_count") == 2
    assert counted.total("kata_relay_writes_total", verdict="applied") == 2, "of one aggregate the newest is written"


def test_the_phases_of_a_batch_add_up_to_its_time(relay: Relay, outbox: Outbox) -> None:
    outbox.user(1)
    outbox.item(1)
    counts = relay.run_once()

    assert set(counts.phases) == set(PHASES)
    assert 0 < sum(counts.phases.values()) <= counts.seconds


def test_the_time_that_mongodb_takes_is_the_phase_of_the_write(
    make_relay: Callable[..., Relay], watch: Callable[[], Watched], outbox: Outbox
) -> None:
    database, commands = watch()
    slow = make_relay(database)
    slow.run_once()
    outbox.user(1)
    commands.before_next("insert", "users_read", lambda: outbox.connection.execute("SELECT pg_sleep(0.5)"))

    assert slow.run_once().phases["write"] >= 0.5


def test_a_message_that_fails_is_counted_with_each_attempt_and_is_not_visible(
    make_relay: Callable[..., Relay], outbox: Outbox
) -> None:
    relay, metrics = make_relay(max_attempts=2), RelayMetrics()
    outbox.append("item", 1, 1, "exploded", {})
    outbox.user(1)
    relayed(relay, metrics)
    assert scrape_of(metrics.registry).total("kata_relay_messages_total", outcome="failed") == 1
    outbox.connection.execute("UPDATE outbox_failures SET next_attempt_at = clock_timestamp()")
    relayed(relay, metrics)
    counted = scrape_of(metrics.registry)

    assert counted.total("kata_relay_messages_total", outcome="failed") == 1
    assert counted.total("kata_relay_messages_total", outcome="dead") == 1
    assert counted.total("kata_relay_messages_total", outcome="settled") == 1
    assert counted.total("kata_commit_to_visible_seconds_count") == 1


def test_a_failure_that_a_newer_version_makes_pointless_is_counted(relay: Relay, outbox: Outbox) -> None:
    metrics = RelayMetrics()
    outbox.append("user", 1, 1, "exploded", {})
    relayed(relay, metrics)
    assert scrape_of(metrics.registry).total("kata_relay_messages_total", outcome="superseded") == 0
    outbox.user(1, version=2)
    relayed(relay, metrics)

    assert scrape_of(metrics.registry).total("kata_relay_messages_total", outcome="superseded") == 1


def test_a_fault_is_counted_by_where_it_lay(relay: Relay, outbox: Outbox) -> None:
    metrics = RelayMetrics()
    outbox.connection.execute("ALTER TABLE outbox RENAME TO gone")
    with pytest.raises(psycopg.errors.UndefinedTable) as fault:
        relay.run_once()
    metrics.fault(fault.value)

    assert scrape_of(metrics.registry).total("kata_relay_faults_total", cause="migration") == 1
    assert scrape_of(metrics.registry).total("kata_relay_faults_total") == 1


def installation(settings: ProjectorSettings, database: Database[Document]) -> Scrape:
    """Return what a projector tells of the whole installation now."""
    registry = CollectorRegistry()
    registry.register(InstallationCollector(Lookout(settings, "test", database)))
    # A look gives up soon, and this machine may be busy.
    wait_until(lambda: scrape_of(registry).total("kata_store_up") == 2, "both stores answered in time")
    return scrape_of(registry)


def test_backlog_lag_failures_and_dead_letters_are_those_of_the_installation(
    settings: ProjectorSettings, read_models: Database[Document], outbox: Outbox, relay: Relay
) -> None:
    outbox.append("item", 1, 1, "exploded", {})
    drain(relay)
    outbox.connection.execute("UPDATE outbox_failures SET state = 'dead', next_attempt_at = NULL")
    outbox.bulk(3)
    outbox.connection.execute("UPDATE outbox SET created_at = created_at - interval '1h'")
    told = installation(settings, read_models)

    assert told.total("kata_dead_letters") == 1
    assert told.total("kata_backlog_messages") == 3
    assert 3600 <= told.total("kata_lag_seconds") < 3700


def test_the_newest_replay_of_each_read_model_is_told(
    settings: ProjectorSettings, read_models: Database[Document], postgres: psycopg.Connection
) -> None:
    postgres.execute(
        "INSERT INTO replays (aggregate_type, shadow, shadow_uuid, shape, state, cursor, copied, expected, updated_at,"
        " ended_at) VALUES"
        " ('item', 'a', gen_random_uuid(), 1, 'failed', 0, 1, 9, now() - interval '2h', now()),"
        " ('item', 'b', gen_random_uuid(), 1, 'copying', 0, 3, 9, now() - interval '1h', NULL),"
        " ('user', 'c', gen_random_uuid(), 1, 'done', 0, 5, 5, now() - interval '1h', now())"
    )
    told = installation(settings, read_models)

    assert told.total("kata_replay_state", read_model="items", state="copying") == 1
    assert told.total("kata_replay_state", read_model="items") == 1
    assert told.total("kata_replay_state", read_model="users", state="done") == 1
    assert told.total("kata_replay_copied_rows", read_model="items") == 3
    assert told.total("kata_replay_expected_rows", read_model="items") == 9
    assert told.total("kata_replay_idle_seconds", read_model="items") >= 3600
    assert told.total("kata_replay_idle_seconds", read_model="users") == 0, "it has ended"


def test_a_sample_that_finds_nothing_does_not_take_back_what_another_one_found(
    settings: ProjectorSettings, read_models: Database[Document], postgres: psycopg.Connection
) -> None:
    def verified(kind: str, missing: int) -> None:
        postgres.execute(
            "INSERT INTO verifications (aggregate_type, kind, compared, missing, stale, orphaned, different)"
            " VALUES ('item', %s, 100, %s, 0, 1, 0)",
            (kind, missing),
        )

    def missing() -> float:
        return installation(settings, read_models).total("kata_drift_documents", read_model="items", kind="missing")

    assert "kata_drift_documents" not in installation(settings, read_models).series
    verified("sample", 3)
    verified("sample", 0)
    assert missing() == 3
    verified("whole", 2)
    assert missing() == 2
    verified("whole", 0)
    assert missing() == 0
    assert installation(settings, read_models).total("kata_drift_documents", kind="orphaned") == 1


def test_a_store_that_is_away_leaves_its_numbers_out_instead_of_showing_old_ones(own_servers: OwnServers) -> None:
    settings = own_servers.settings
    migrate(settings)
    registry = CollectorRegistry()
    with create_client(settings, "test") as client:
        registry.register(InstallationCollector(Lookout(settings, "test", read_model_database(client, settings))))
        wait_until(lambda: scrape_of(registry).total("kata_store_up") == 2, "both are seen to be there")
        own_servers.mongod.stop()
        own_servers.postgres.stop()
        try:
            wait_until(lambda: scrape_of(registry).total("kata_store_up") == 0, "both are seen to be away")
            assert "kata_backlog_messages" not in scrape_of(registry).series
        finally:
            own_servers.postgres.restart()
            own_servers.mongod.restart()
        wait_until(lambda: scrape_of(registry).total("kata_store_up") == 2, "both are seen to be back", 40)


def test_a_postgresql_that_falls_silent_does_not_hold_a_scrape_up(own_servers: OwnServers) -> None:
    settings = own_servers.settings
    migrate(settings)
    registry = CollectorRegistry()
    with create_client(settings, "test") as client, connect(settings, "blocker") as blocker:
        registry.register(InstallationCollector(Lookout(settings, "test", read_model_database(client, settings))))
        blocker.execute("LOCK TABLE outbox")
        wait_until(
            lambda: [value for _, value in scrape_of(registry).series["kata_store_up"]] == [0, 1],
            "PostgreSQL's silence is seen, and that MongoDB answers",
        )
        blocker.rollback()
        wait_until(lambda: scrape_of(registry).total("kata_store_up") == 2, "it answers again")


def test_the_projectors_are_counted_by_what_postgresql_knows_of_them(
    settings: ProjectorSettings, read_models: Database[Document], postgres: psycopg.Connection
) -> None:
    postgres.execute(
        "INSERT INTO projectors (name, heartbeat, ended_at) VALUES"
        " ('one lane 0', clock_timestamp(), NULL), ('one lane 1', clock_timestamp(), NULL),"
        " ('killed lane 0', clock_timestamp() - interval '10 minutes', NULL),"
        " ('stopped lane 0', clock_timestamp(), clock_timestamp())"
    )
    told = installation(settings, read_models)

    assert [told.total("kata_projectors", state=state) for state in ("at work", "silent", "ended")] == [1, 1, 1]
