"""Sessions in PostgreSQL: none is kept for somebody who stands still, or is gone."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from api.pool import Pool
from projector.settings import ProjectorSettings
from shared.postgres import connect, connect_async

# Beside the time-out of a transaction in which nothing happens, what the server does to hear from a silent peer.
ENDED_BY = {
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
SHOWN = "SELECT " + ", ".join(f"current_setting('{name}')" for name in ENDED_BY)


def shown_by_connection(settings: ProjectorSettings) -> object:
    with connect(settings, "test") as connection:
        return connection.execute(SHOWN.encode()).fetchone()


def shown_by_async_connection(settings: ProjectorSettings) -> object:
    async def show() -> object:
        async with await connect_async(settings, "test") as connection:
            return await (await connection.execute(SHOWN.encode())).fetchone()

    return asyncio.run(show())


def shown_by_pool(settings: ProjectorSettings) -> object:
    async def show() -> object:
        pool = Pool(settings, "test", size=1, timeout=1)
        async with pool.connection() as connection:
            row = await (await connection.execute(SHOWN.encode())).fetchone()
        await pool.close()
        return row

    return asyncio.run(show())


@pytest.mark.parametrize("shown_by", [shown_by_connection, shown_by_async_connection, shown_by_pool])
def test_every_session_is_ended_by_the_server_when_nobody_is_there(
    settings: ProjectorSettings, shown_by: Callable[[ProjectorSettings], object]
) -> None:
    assert shown_by(settings) == tuple(ENDED_BY.values())


def test_a_transaction_in_which_nothing_happens_is_ended_and_its_rows_are_free(
    settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    with connect(settings, "test", idle_in_transaction_session_timeout=50) as stands_still:
        stands_still.execute("UPDATE installation SET handshake = handshake + 1")
        # Waits until the other one is ended.
        postgres.execute("UPDATE installation SET handshake = 5")
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            stands_still.execute("SELECT 1")
        stands_still.close()
