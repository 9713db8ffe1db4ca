"""The pool of PostgreSQL connections: of one size, with a queue that is bounded in time and in length.

Whoever finds no idle connection makes one, and hears at once when PostgreSQL is away. The driver's own pool makes them
in the background: everybody would wait for the time-out, and be told that the service is busy. Through SQLAlchemy's a
command took a quarter longer.

Connections that the server has closed are replaced before a command uses them. A server that ends a session says so on
its socket, where an idle connection expects nothing. Asking the socket costs microseconds; a ping of the server would
cost every command a round trip.
"""

import asyncio
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

import psycopg
from psycopg.pq import TransactionStatus

from api.errors import OverloadedError
from shared.postgres import connect_async
from shared.settings import Settings

# Commands of some milliseconds empty such a queue within the pool's time-out. Whoever comes beyond that would wait for
# nothing, and is told so at once.
WAITING_PER_CONNECTION: Final = 50
# What a server's address and its certificates were half an hour ago they need not be any more.
LONGEST_LIFE_SECONDS: Final = 1800.0


class _Idle(NamedTuple):
    connection: psycopg.AsyncConnection
    born: float


class Pool:
    """Lives on one event loop."""

    def __init__(self, settings: Settings, name: str, *, size: int, timeout: float, **session: str | int) -> None:
        """`name` is that of its sessions; for one of the `size` somebody waits at most `timeout` seconds.

        `session` holds server settings, times in milliseconds.
        """
        self.size = size
        self.busy = 0
        self.waiting = 0
        self._connect = partial(connect_async, settings, name, autocommit=False, **session)
        self._timeout = timeout
        self._turns = asyncio.Semaphore(size)
        self._idle: list[_Idle] = []

    @asynccontextmanager
    async def connection(self, *, autocommit: bool = False) -> AsyncIterator[psycopg.AsyncConnection]:
        """Lend a connection. What is not committed when it comes back is rolled back.

        Raises OverloadedError, and psycopg.OperationalError when PostgreSQL is away.
        """
        await self._take_turn()
        self.busy += 1
        try:
            connection, born = await self._idle_or_new()
            try:
                if connection.autocommit != autocommit:
                    await connection.set_autocommit(autocommit)
                yield connection
            except asyncio.CancelledError:
                # It may be in the middle of a statement.
                await connection.close()
                raise
            finally:
                if await _is_of_use(connection):
                    self._idle.append(_Idle(connection, born))
        finally:
            self.busy -= 1
            self._turns.release()

    async def close(self) -> None:
        """Close the connections that nobody has."""
        while self._idle:
            await self._idle.pop().connection.close()

    async def _take_turn(self) -> None:
        if self._turns.locked() and self.waiting >= self.size * WAITING_PER_CONNECTION:
            raise OverloadedError
        self.waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._turns.acquire()
        except TimeoutError as error:
            raise OverloadedError from error
        finally:
            self.waiting -= 1

    async def _idle_or_new(self) -> _Idle:
        # The last that came back is the likeliest to be of use.
        while self._idle:
            idle = self._idle.pop()
            if time.monotonic() - idle.born < LONGEST_LIFE_SECONDS and not _is_spoken_to(idle.connection):
                return idle
            await idle.connection.close()
        return _Idle(await self._connect(), time.monotonic())


def _is_spoken_to(connection: psycopg.AsyncConnection) -> bool:
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


async def _is_of_use(connection: psycopg.AsyncConnection) -> bool:
    """Roll back what is open, and return whether the connection can be lent again. Else it is closed."""
    try:
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            await connection.rollback()
    except psycopg.Error:
        await connection.close()
    except BaseException:
        await connection.close()
        raise
    return not connection.closed
