"""The pool: what it lends, what it takes back, and whom it refuses."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest

from api import pool as pool_module
from api.errors import OverloadedError
from api.pool import Pool
from api.settings import ApiSettings

Run = Callable[[Callable[[Pool], Awaitable[None]]], None]

WHO = "SELECT pg_backend_pid()"


@pytest.fixture
def with_pool(api_settings: ApiSettings) -> Run:
    """Runs a scenario with a pool of one connection."""

    async def run(scenario: Callable[[Pool], Awaitable[None]]) -> None:
        pool = Pool(api_settings, "test", size=1, timeout=0.2)
        try:
            await scenario(pool)
            assert (pool.busy, pool.waiting) == (0, 0)
        finally:
            await pool.close()

    return lambda scenario: asyncio.run(run(scenario))


async def first(connection: psycopg.AsyncConnection, statement: str) -> Any:
    row = await (await connection.execute(statement.encode())).fetchone()
    return row and row[0]


def test_a_connection_is_lent_again_without_what_was_not_committed(with_pool: Run) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO tags (name) VALUES ('kept')")
            await connection.commit()
            await connection.execute("INSERT INTO tags (name) VALUES ('forgotten')")
            session = await first(connection, WHO)
        async with pool.connection() as connection:
            assert await first(connection, "SELECT string_agg(name, ',') FROM tags") == "kept"
            assert await first(connection, WHO) == session

    with_pool(scenario)


def test_an_error_leaves_a_connection_that_can_be_lent_again(with_pool: Run) -> None:
    async def scenario(pool: Pool) -> None:
        with pytest.raises(psycopg.errors.DivisionByZero):
            async with pool.connection() as connection:
                await first(connection, "SELECT 1 / 0")
        async with pool.connection() as connection:
            assert await first(connection, "SELECT 1") == 1

    with_pool(scenario)


def test_a_connection_commits_by_itself_for_whoever_asks_for_that_and_for_nobody_else(with_pool: Run) -> None:
    async def scenario(pool: Pool) -> None:
        for autocommit in (False, True, False):
            async with pool.connection(autocommit=autocommit) as connection:
                await connection.execute("INSERT INTO tags (name) VALUES (%s)", (f"{autocommit}",))
        async with pool.connection() as connection:
            assert await first(connection, "SELECT string_agg(name, ',') FROM tags") == "True"

    with_pool(scenario)


def test_a_connection_whose_statement_was_broken_off_is_not_lent_again(with_pool: Run) -> None:
    async def scenario(pool: Pool) -> None:
        sessions, is_there = list[int](), asyncio.Event()

        async def stand_still() -> None:
            async with pool.connection() as connection:
                sessions.append(await first(connection, WHO))
                is_there.set()
                await connection.execute("SELECT pg_sleep(60)")

        standing = asyncio.create_task(stand_still())
        await is_there.wait()
        standing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await standing
        async with pool.connection() as connection:
            assert await first(connection, WHO) != sessions[0]

    with_pool(scenario)


@pytest.mark.parametrize("how", ["ended by the server", "old"])
def test_a_connection_that_is_of_no_use_any_more_is_replaced(
    with_pool: Run, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def scenario(pool: Pool) -> None:
        async with pool.connection() as connection:
            session = await first(connection, WHO)
        if how == "old":
            monkeypatch.setattr(pool_module, "LONGEST_LIFE_SECONDS", 0.0)
        else:
            # It returns when the session is gone.
            postgres.execute("SELECT pg_terminate_backend(%s, 10000)", (session,))
        async with pool.connection() as connection:
            assert await first(connection, WHO) != session

    with_pool(scenario)


def test_whoever_waits_longer_than_the_time_out_is_refused_and_so_is_whoever_comes_beyond_the_queues_length(
    with_pool: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "WAITING_PER_CONNECTION", 2)

    async def scenario(pool: Pool) -> None:
        async def ask() -> None:
            async with pool.connection():
                pass

        async with pool.connection():
            waiting = [asyncio.create_task(ask()) for _ in range(2)]
            await asyncio.sleep(0)
            assert pool.waiting == 2
            with pytest.raises(OverloadedError):
                await ask()
            assert [type(refused) for refused in await asyncio.gather(*waiting, return_exceptions=True)] == [
                OverloadedError
            ] * 2
        await ask()

    with_pool(scenario)


def test_while_postgresql_is_away_everybody_hears_so_at_once(api_settings: ApiSettings) -> None:
    nowhere = type(api_settings.database_url)("postgresql://nobody@127.0.0.1:1/nothing")

    async def scenario() -> None:
        pool = Pool(api_settings.model_copy(update={"database_url": nowhere}), "test", size=1, timeout=60)
        for _ in range(3):
            with pytest.raises(psycopg.OperationalError):
                async with pool.connection():
                    pass
        assert pool.busy == 0

    asyncio.run(scenario())
