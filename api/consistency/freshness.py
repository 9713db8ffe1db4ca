"""Reads that see at least one write: wait for its message, then read at or after MongoDB's time of that moment."""

import time
from dataclasses import dataclass
from typing import Final, Self, cast
from uuid import UUID

from psycopg.rows import args_row

from api.consistency.settlements import CHECK_SECONDS, Settlements
from api.consistency.token import Token
from api.consistency.waker import Waker
from api.errors import ProjectionFailedError, ProjectionPendingError, TokenError
from api.metrics import ApiMetrics
from api.pool import Pool
from shared.mongo_time import MongoTime
from shared.outbox.lookup import LOOK_UP, MAKE_AWAITED, AsOf
from shared.outbox.wake import Wake

FIRST_PAUSE_SECONDS: Final = 0.01
PENDING: Final = frozenset({"pending", "retrying"})


@dataclass(frozen=True, slots=True)
class LookUp:
    """What PostgreSQL says of a token's message, in one snapshot."""

    history: UUID
    as_of: AsOf
    state: str
    operation_time: int | None
    cluster_time: bytes | None

    @classmethod
    def of_row(
        cls,
        history: UUID,
        incarnation: UUID,
        handshake: int,
        state: str,
        operation_time: int | None,
        cluster_time: bytes | None,
    ) -> Self:
        """Return it from the row of LOOK_UP."""
        return cls(history, AsOf(incarnation, handshake), state, operation_time, cluster_time)

    @property
    def time(self) -> MongoTime | None:
        """MongoDB's time after the last settled batches."""
        if self.operation_time is None or self.cluster_time is None:
            return None
        return MongoTime(self.operation_time, self.cluster_time)


class Freshness:
    """Waits for the messages that tokens name. A token whose message is settled costs one statement."""

    def __init__(
        self,
        pool: Pool,
        settlements: Settlements,
        waker: Waker,
        metrics: ApiMetrics,
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._settlements = settlements
        self._waker = waker

    async def look_up(self, token: Token, seconds: float) -> LookUp:
        """Return what is known of the token's write once reads at or after its `time` see it, after at most `seconds`.

        What was read is true if the read models still hold what was settled `as_of` then. Raises TokenError for a token
        of another installation,
        ProjectionPendingError when the write does not become visible in time, ProjectionFailedError when it failed.
        """
        begun = time.monotonic()
        found = await self._look_up(token)
        if found.state in PENDING:
            # One that was claimed just then is not awaited; and the others find it as well.
            self._waker.wake(Wake(token.message_id))
            if seconds > 0:
                found = await self._wait(token, found, seconds, begun)
        if found.state in PENDING:
            raise ProjectionPendingError
        if found.state != "settled":
            raise ProjectionFailedError
        return found

    async def _wait(self, token: Token, found: LookUp, seconds: float, begun: float) -> LookUp:
        """Return what became of the message after at most `seconds`; it is `found` pending."""
        deadline, pause = time.monotonic() + seconds, FIRST_PAUSE_SECONDS
        with self._metrics.waiting("read"):
            # While draining, wait() returns at once: looking again and again would only keep the database busy.
            while not self._settlements.is_draining and (left := deadline - time.monotonic()) > 0:
                # A message that is claimed just now was not made awaited in time, so its settling is not announced.
                await self._settlements.wait(token, min(left, pause), since=begun)
                pause = min(pause * 2, CHECK_SECONDS)
                found = await self._look_up(token)
                if found.state not in PENDING:
                    return found
        if not self._settlements.is_draining:
            self._metrics.timed_out("read")
        return found

    async def _look_up(self, token: Token) -> LookUp:
        """Return what became of the message; a pending one is made awaited."""
        parameters = {"id": token.message_id}
        async with self._pool.connection(autocommit=True) as connection:
            cursor = await connection.cursor(row_factory=args_row(LookUp.of_row)).execute(LOOK_UP, parameters)
            found = cast("LookUp", await cursor.fetchone())
            if found.history != token.history:
                raise TokenError("it belongs to another installation, or to what it was before it was restored")
            if found.state == "pending":
                await connection.execute(MAKE_AWAITED, parameters)
        return found
