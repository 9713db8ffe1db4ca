"""Waking the relay after a commit, so that an idle projector need not wait for its next poll.

Never inside the command's transaction: NOTIFY there serialises all commits. Behind it, in a transaction of its own but
in the same round trip, it costs a client who waits the least. Wakes are coalesced: those that come while one is on its
way, or shortly after it, go as one with the next. So a relay has more in a batch, and fewer batches.
"""

import asyncio
import time
from contextlib import suppress

import psycopg

from api import log_events
from shared.logs import get_logger
from shared.outbox.wake import Wake
from shared.postgres import WAKE_CHANNEL, connect_async
from shared.settings import Settings

RECONNECT_SECONDS = 1.0

# Whoever was woken is busy for longer than this, and looks again afterwards. Twice as much puts a twentieth more
# through when all are busy, and keeps half of the writes waiting at five hundred a second.
COALESCE_SECONDS = 0.001

# What no client waits for is gathered for so long.
GATHER_SECONDS = 0.01

_log = get_logger("waker")


class Waker:
    """Sends wakes, behind commits or on a connection of its own. One that is lost costs the relay a poll interval."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._pending = asyncio.Event()
        self._urgent = asyncio.Event()
        self._next: Wake | None = None
        self._quiet_from = 0.0

    async def commit(self, connection: psycopg.AsyncConnection, wake: Wake) -> None:
        """Commit the transaction of `connection`, and tell the relay: at once, or soon if somebody was told just now.

        Raises psycopg.Error, and nobody knows then whether it is committed.
        """
        is_quiet = not self._pending.is_set() and time.monotonic() >= self._quiet_from
        if is_quiet and wake.kind != "unawaited":
            self._quiet_from = time.monotonic() + COALESCE_SECONDS
            await connection.execute(f"COMMIT; {_notification(wake)}".encode(), prepare=False)
        else:
            await connection.commit()
            self.wake(wake)

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
            await asyncio.sleep(self._quiet_from - time.monotonic())
            self._pending.clear()
            self._urgent.clear()
            wake, self._next = self._next, None
            if wake:
                await connection.execute(_notification(wake).encode())
                self._quiet_from = time.monotonic() + COALESCE_SECONDS
                await self._gather()

    async def _gather(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECONDS):
                await self._urgent.wait()


def _notification(wake: Wake) -> str:
    return f"NOTIFY {WAKE_CHANNEL}, '{wake.encode()}'"
