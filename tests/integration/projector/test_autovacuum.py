"""Dead rows of the hot tables are cleared up in time: by autovacuum, or by the next update of the same row."""

from collections.abc import Iterator

import psycopg
import pytest

from projector import lanes
from projector.outbox import CLAIM
from tests.fixtures.relays import Outbox
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, migrate

BACKLOG = 20_000
SETTLED = 2_000
UPDATES = 500

VACUUMED = "SELECT autovacuum_count, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'outbox'"
UPDATED = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'projectors'"


@pytest.fixture
def hasty(own_servers: OwnServers) -> Iterator[psycopg.Connection]:
    """A connection to a migrated database whose server looks every second what has to be vacuumed."""
    migrate(own_servers.settings)
    with psycopg.connect(own_servers.settings.database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        connection.execute("SELECT pg_reload_conf()")
        yield connection
        connection.execute("ALTER SYSTEM RESET autovacuum_naptime")
        connection.execute("SELECT pg_reload_conf()")


def test_some_thousand_settled_messages_are_vacuumed_however_large_the_backlog(hasty: psycopg.Connection) -> None:
    Outbox(hasty).bulk(BACKLOG)
    hasty.execute("ANALYZE outbox")  # so that the server knows how large the table is, and what a fifth of it were

    hasty.execute(CLAIM.statement, {"after": 0, "limit": SETTLED})

    def is_vacuumed() -> bool:
        hasty.execute("SELECT pg_stat_force_next_flush()")
        row = hasty.execute(VACUUMED).fetchone()
        return row is not None and row[0] > 0

    wait_until(is_vacuumed, "autovacuum has been there", 60)
    assert len(Outbox(hasty).ids()) == BACKLOG - SETTLED


def test_a_batch_updates_its_lanes_row_without_touching_an_index(postgres: psycopg.Connection) -> None:
    for _ in range(UPDATES):
        lanes.beat(postgres, "lane 0")
        lanes.beat(postgres, "lane 1")
    postgres.execute("SELECT pg_stat_force_next_flush()")

    row = postgres.execute(UPDATED).fetchone()

    assert row
    updated, on_the_page = row
    assert updated >= 2 * UPDATES - 2
    # Another session's snapshot may keep a page full for a moment.
    assert on_the_page >= 0.9 * updated
