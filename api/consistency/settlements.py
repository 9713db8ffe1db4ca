"""Waiting for messages to be settled: one LISTEN connection per process, however many clients wait.

Wait tells the truth: a waiter is armed only after its commit returned, and it is resolved only by the settling
commit's notification, or by the absence of its row in a snapshot taken after arming.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from typing import Final
from uuid import UUID

import psycopg
from psycopg import sql
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from api import log_events
from api.consistency.provenance import Provenance
from api.consistency.token import Token
from shared.logs import get_logger
from shared.outbox.lookup import UNSETTLED_NOW, AsOf
from shared.postgres import DEAD_CHANNEL, SETTLED_CHANNEL, connect_async
from shared.settings import Settings

# An answer may come before its waiter is armed; it is remembered for as long as that can take.
REMEMBER_SECONDS: Final = 5.0
# A lost notification delays an answer by this much, and loses nothing.
CHECK_SECONDS: Final = 1.0
STATEMENT_TIMEOUT_MILLISECONDS: Final = 5_000

_ID: Final = re.compile(r"[0-9]{1,19}")
_HISTORY: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_log = get_logger("settlements")


class Visibility(Enum):
    """What became of a write's projection when the waiting ended."""

    VISIBLE = "visible"
    PENDING = "pending"
    FAILED = "failed"


class Settlements:
    """Knows which messages are settled and wakes those who wait for them. Lives on one event loop."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        # By token: message ids start again after a reset, and may be issued again after a failover.
        self._waiters: dict[Token, set[asyncio.Future[Visibility]]] = {}
        self._recent: OrderedDict[Token, tuple[float, Visibility]] = OrderedDict()
        self._draining = False

    @property
    def waiting(self) -> int:
        """How many clients wait now."""
        return sum(map(len, self._waiters.values()))

    @property
    def is_draining(self) -> bool:
        """Whether nobody can wait any more."""
        return self._draining

    async def wait(self, token: Token, seconds: float, *, since: float) -> Visibility:
        """Wait until the message is settled or dead, at most `seconds`. To be called after its commit returned.

        What was heard before the moment `since`, by time.monotonic(), was said of another message of this id: of one
        that PostgreSQL has lost.
        """
        heard, known = self._recent.get(token, (0.0, Visibility.PENDING))
        if known is not Visibility.PENDING and heard >= since:
            return known
        if seconds <= 0 or self._draining:
            return Visibility.PENDING
        waiter: asyncio.Future[Visibility] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(token, set()).add(waiter)
        try:
            async with asyncio.timeout(seconds):
                return await waiter
        except TimeoutError:
            return Visibility.PENDING
        finally:
            waiters = self._waiters[token]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[token]

    def drain(self) -> None:
        """Answer everybody who waits that it is not yet visible, and let nobody wait any more."""
        self._draining = True
        for token in list(self._waiters):
            self._wake(token, Visibility.PENDING)

    async def listen(self) -> None:
        """Receive notifications until cancelled, reconnecting for as long as it takes."""
        async for attempt in _reconnecting("settlements.listener"):
            with attempt:
                connection = await connect_async(self._settings, self._name)
                async with connection:
                    for channel in (SETTLED_CHANNEL, DEAD_CHANNEL):
                        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    async for notification in connection.notifies():
                        visible = notification.channel == SETTLED_CHANNEL
                        named = _tokens(notification.payload)
                        self._resolve(dict.fromkeys(named, Visibility.VISIBLE if visible else Visibility.FAILED))

    async def check(self, provenance: Provenance) -> None:
        """Look for what a lost notification would have said, until cancelled."""
        async for attempt in _reconnecting("settlements.check"):
            with attempt:
                connection = await connect_async(
                    self._settings, self._name, statement_timeout=STATEMENT_TIMEOUT_MILLISECONDS
                )
                async with connection:
                    while True:
                        await asyncio.sleep(CHECK_SECONDS)
                        await self._check_waiting(connection, provenance)

    async def _check_waiting(self, connection: psycopg.AsyncConnection, provenance: Provenance) -> None:
        waiting = list(self._waiters)
        if not waiting:
            return
        cursor = await connection.execute(UNSETTLED_NOW, {"ids": [token.message_id for token in waiting]})
        row: tuple[UUID, UUID, int, dict[str, str]] | None = await cursor.fetchone()
        if row is None:
            return
        history, incarnation, handshake, states = row
        asked = {token: states.get(str(token.message_id)) for token in waiting if token.history == history}
        self._resolve({token: Visibility.FAILED for token, state in asked.items() if state in {"dead", "discarded"}})
        absent = [token for token, state in asked.items() if state is None]
        if absent and await provenance.is_known_to_hold(AsOf(incarnation, handshake)):
            self._resolve(dict.fromkeys(absent, Visibility.VISIBLE))

    def _resolve(self, found: Mapping[Token, Visibility]) -> None:
        now = time.monotonic()
        for token, visibility in found.items():
            self._recent[token] = (now, visibility)
            self._wake(token, visibility)
        while self._recent and next(iter(self._recent.values()))[0] < now - REMEMBER_SECONDS:
            self._recent.popitem(last=False)

    def _wake(self, token: Token, visibility: Visibility) -> None:
        for waiter in self._waiters.get(token, ()):
            if not waiter.done():
                waiter.set_result(visibility)


def _tokens(payload: str) -> list[Token]:
    """Return the messages that a notification names. Anybody may send one, so what makes no sense is passed over."""
    history, _, ids = payload.partition(" ")
    if not _HISTORY.fullmatch(history):
        return []
    return [Token(UUID(history), int(part)) for part in ids.split(",") if _ID.fullmatch(part)]


def _reconnecting(part: str) -> AsyncRetrying:
    def report(state: RetryCallState) -> None:
        error = state.outcome and state.outcome.exception()
        _log.warning(log_events.CONNECTION_LOST, connection=part, error=str(error))

    return AsyncRetrying(
        retry=retry_if_exception_type(psycopg.Error),
        wait=wait_random_exponential(multiplier=0.1, max=3),
        before_sleep=report,
    )
