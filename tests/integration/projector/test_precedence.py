"""Clients first: what stands back while one is served, and what goes on."""

import psycopg
import pytest

from projector import precedence
from projector.settings import ProjectorSettings
from shared.outbox.wake import Wake
from shared.postgres import WAKE_CHANNEL
from tests.fixtures.relays import Outbox, projecting
from tests.fixtures.waiting import wait_until

BATCH = 10
IMPORTED = 50 * BATCH
SETTLED = "SELECT coalesce(sum(settled), 0)::int FROM projectors WHERE name LIKE %s"


def settled(postgres: psycopg.Connection, lane: int) -> int:
    row = postgres.execute(SETTLED, (f"% lane {lane}",)).fetchone()
    assert row
    return int(row[0])


def test_one_lane_stands_back_while_a_client_is_served_and_another_goes_on(
    settings: ProjectorSettings, outbox: Outbox, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precedence, "SECONDS", 3600.0)

    def client_was_served() -> bool:
        # Any lane may take it; only the first one's clients are known to wait.
        message_id = outbox.append("user", 1, 1, "exploded", {}, awaited=True)
        postgres.execute("SELECT pg_notify(%s, %s)", (WAKE_CHANNEL, Wake(message_id, "awaited").encode()))
        wait_until(lambda: not outbox.ids(), "it was taken")
        return claimed_by_first()

    def claimed_by_first() -> bool:
        return postgres.execute("SELECT FROM projectors WHERE name LIKE '% lane 0' AND batch_seconds > 0").rowcount > 0

    with projecting(settings.model_copy(update={"batch_size": BATCH, "max_attempts": 2})):
        wait_until(client_was_served, "the first lane has served a client")

        outbox.bulk(IMPORTED)
        wait_until(lambda: not outbox.ids(), "the import is through")

        # It may have been at work when the client came.
        assert settled(postgres, 2) <= 3 * BATCH
        assert settled(postgres, 1) >= IMPORTED - 3 * BATCH
