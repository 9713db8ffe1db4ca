"""Waking the relay after a commit, so that an idle projector need not wait for its next poll.

Never inside the command's transaction: NOTIFY there serialises all commits. Wakes are coalesced: while one is on its
way, those that come meanwhile go as one with the next.
"""

import asyncio

import psycopg

from api import log_events
from shared.logs import get_logger
from shared.outbox.wake import Wake
from shared.postgres import WAKE_CHANNEL, connect_async
from shared.settings import Settings

RECONNECT_SECONDS = 1.0

_log = get_logger("waker")


class Waker:
    """Sends wakes on a connection of its own. A wake that is lost costs one poll interval of the projector."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._pending = asyncio.Event()
        self._next: Wake | None = None

    def wake(self, message_id: int, *, awaited: bool) -> None:
        """Tell the relay, soon, that this message was committed, and whether a client waits for it."""
        wake = Wake(message_id, awaited_only=awaited)
        self._next = self._next | wake if self._next else wake
        self._pending.set()

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
            wake, self._next = self._next, None
            if wake:
                await connection.execute("SELECT pg_notify(%s, %s)", (WAKE_CHANNEL, wake.encode()))
