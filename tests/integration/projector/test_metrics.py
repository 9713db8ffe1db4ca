"""The projector's metrics: what a relay did is what they count."""

from collections.abc import Callable

import psycopg
import pytest

from projector.metrics import RelayMetrics
from projector.phases import PHASES
from projector.relay import BatchCounts, Relay
from tests.fixtures.relays import Outbox, Watched
from tests.fixtures.scrapes import scrape_of


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


def test_a_message_that_fails_is_counted_and_is_not_visible(relay: Relay, outbox: Outbox) -> None:
    metrics = RelayMetrics()
    outbox.append("item", 1, 1, "exploded", {})
    outbox.user(1)
    relayed(relay, metrics)
    counted = scrape_of(metrics.registry)

    assert counted.total("kata_relay_messages_total", outcome="dead") == 1
    assert counted.total("kata_relay_messages_total", outcome="settled") == 1
    assert counted.total("kata_commit_to_visible_seconds_count") == 1


def test_a_fault_is_counted_by_where_it_lay(relay: Relay, outbox: Outbox) -> None:
    metrics = RelayMetrics()
    outbox.connection.execute("ALTER TABLE outbox RENAME TO gone")
    with pytest.raises(psycopg.errors.UndefinedTable) as fault:
        relay.run_once()
    metrics.fault(fault.value)

    assert scrape_of(metrics.registry).total("kata_relay_faults_total", cause="migration") == 1
    assert scrape_of(metrics.registry).total("kata_relay_faults_total") == 1
