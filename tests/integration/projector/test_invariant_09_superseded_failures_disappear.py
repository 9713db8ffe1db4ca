"""Invariant 9: settling a version removes the aggregate's older failures in the same transaction."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from pymongo.database import Database

from projector.batch import Batch
from projector.outbox import Recorded
from projector.relay import BatchCounts, Relay
from shared.mongo import Document
from tests.fixtures.relays import Outbox, Watched, drain
from tests.fixtures.waiting import wait_until

BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def poison(outbox: Outbox, aggregate_id: int, version: int) -> int:
    return outbox.append("item", aggregate_id, version, "exploded", {})


def test_settling_a_version_removes_the_lower_ones_of_the_same_aggregate_only(relay: Relay, outbox: Outbox) -> None:
    older = [poison(outbox, 7, 1), poison(outbox, 7, 2)]
    newer = poison(outbox, 7, 4)
    another = poison(outbox, 8, 1)
    user = outbox.append("user", 7, 1, "exploded", {})
    drain(relay)
    assert {f[0] for f in outbox.failures()} == {*older, newer, another, user}

    outbox.item(7, 3)
    drain(relay)

    assert {f[0] for f in outbox.failures()} == {newer, another, user}


@pytest.mark.parametrize("state", ["retrying", "dead", "discarded"])
def test_failures_are_superseded_in_whatever_state_they_are(
    relay: Relay, outbox: Outbox, postgres: psycopg.Connection, state: str
) -> None:
    poison(outbox, 7, 1)
    drain(relay)
    postgres.execute(
        "UPDATE outbox_failures SET state = %s, next_attempt_at = CASE WHEN %s = 'retrying' THEN now() END",
        (state, state),
    )
    outbox.item(7, 2)
    drain(relay)

    assert outbox.failures() == []


def test_the_removal_commits_with_the_settling_or_not_at_all(
    make_relay: Callable[..., Relay], outbox: Outbox, postgres: psycopg.Connection
) -> None:
    relay = make_relay()
    failed = poison(outbox, 7, 1)
    drain(relay)
    outbox.item(7, 2, awaited=True)
    postgres.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE lock_not_available; END $$; "
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE ON projectors"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(psycopg.errors.LockNotAvailable):
        relay.run_once()
    assert [f[0] for f in outbox.failures()] == [failed]
    assert len(outbox.ids()) == 1

    postgres.execute("DROP TRIGGER at_commit ON projectors")
    drain(relay)
    assert outbox.failures() == []


@pytest.mark.parametrize("stored", [2, 3])
def test_a_message_that_fails_while_the_read_model_is_as_new_is_settled(
    relay: Relay, outbox: Outbox, read_models: Database[Document], stored: int
) -> None:
    outbox.item(7, stored)
    drain(relay)
    poison(outbox, 7, 2)

    counts = drain(relay)

    assert (counts.settled, counts.dead) == (1, 0)
    assert outbox.failures() == []


def test_a_failure_that_is_tried_again_while_a_newer_version_settles_does_not_stay(
    make_relay: Callable[..., Relay], outbox: Outbox, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each waits for the other for as long as a busy machine takes.
    retrying, newer = make_relay(max_attempts=9, batch_deadline_seconds=60), make_relay(batch_deadline_seconds=60)
    newer.run_once()
    poison(outbox, 7, 1)
    assert retrying.run_once().failed == 1
    settle, settling = Batch.settle, list[Future[BatchCounts]]()

    def settle_after_the_newer(*arguments: Any, **keywords: Any) -> Recorded:
        if not settling:
            outbox.item(7, 2)
            settling.append(pool.submit(newer.run_once))
            wait_until(
                lambda: settling[0].done() or postgres.execute(BLOCKED).fetchone() == (1,), "it has settled, or waits"
            )
        return settle(*arguments, **keywords)

    monkeypatch.setattr(Batch, "settle", settle_after_the_newer)
    with ThreadPoolExecutor(1) as pool:
        assert retrying.run_once().failed == 1
        assert settling[0].result().settled == 1

    assert outbox.failures() == []


def test_a_message_that_fails_while_the_read_model_is_older_is_a_dead_letter(relay: Relay, outbox: Outbox) -> None:
    outbox.item(7, 1)
    drain(relay)
    poison(outbox, 7, 2)

    assert drain(relay).dead == 1


def test_the_look_for_what_is_stored_is_bounded_too(
    make_relay: Callable[..., Relay], outbox: Outbox, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()
    relay = make_relay(database)
    relay.run_once()
    commands.sent.clear()
    poison(outbox, 7, 2)
    relay.run_once()

    (look,) = commands.named("find")
    assert 0 < look["maxTimeMS"] <= 10_000
