"""Waking the relay after a commit, so that an idle projector need not wait for its next poll.

Never inside the command's transaction: NOTIFY there serialises all commits. Wakes are coalesced: those that come while
one is on its way, or shortly after it, go as one with the next. So a relay has more in a batch, and fewer batches.
"""

import asyncio
from contextlib import suppress

import psycopg

from api import log_events
from shared.logs import get_logger
from shared.outbox.wake import Wake
from shared.postgres import WAKE_CHANNEL, connect_async
from shared.settings import Settings

RECONNECT_SECONDS = 1.0

# Whoever was woken is busy for longer than this, and looks again afterwards.
COALESCE_SECONDS = 0.002

# What no client waits for is gathered for so long.
GATHER_SECONDS = 0.01

_log = get_logger("waker")


class Waker:
    """Sends wakes on a connection of its own. A wake that is lost costs one poll interval of the projector."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._pending = asyncio.Event()
        self._urgent = asyncio.Event()
        self._next: Wake | None = None

    def wake(self, wake: Wake) -> None:
        """Tell the relay, soon, what was committed."""
        self._next = self._next | wake if self._next else wake
        self._pending.set()
        if wake.kind != "unawaited":
            self._urgent.set()

    async def run(self) -> None:
        """Send wakes until cancelled."""
        while True:
            try:
                async with await connect_async(self._settings, self._name) as connection:
                    await self._send(connection)
            except psycopg.Error as error:
                _log.warning(log_events.CONNECTION_LOST, connection="waker", error=str(error))
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _send(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            self._urgent.clear()
            wake, self._next = self._next, None
            if wake:
                await connection.execute("SELECT pg_notify(%s, %s)", (WAKE_CHANNEL, wake.encode()))
                await asyncio.sleep(COALESCE_SECONDS)
                await self._gather()

    async def _gather(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECONDS):
                await self._urgent.wait()
