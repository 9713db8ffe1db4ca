"""The unit of work: domain rows and exactly one outbox message, one commit, inside the command.

The commit happens before the answer is written. It never happens in the teardown of a dependency, which FastAPI
runs after the response has been sent.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import UUID

import psycopg

from api.consistency.waker import Waker
from api.errors import OutcomeUnknownError
from api.idempotency import repository as idempotency
from api.idempotency.request_key import RequestKey
from api.pool import Pool
from shared.events.event import Event
from shared.outbox.append import append
from shared.outbox.lookup import AsOf
from shared.outbox.wake import Wake


@dataclass(frozen=True, slots=True)
class Committed:
    """A command that is done: its event, the id of the message that carries it, and the history it is part of.

    Its transaction took `seconds`, from the wait for a connection, at the moment `begun` by time.monotonic(), to the
    commit. What an earlier request did is `repeated`, and may have been `settled` as of then.
    """

    event: Event
    message_id: int
    history: UUID
    begun: float
    seconds: float
    repeated: bool = False
    settled: AsOf | None = None


class UnitOfWork:
    """One transaction. `async with work as connection:` gives the connection back at the end, whatever happened."""

    def __init__(
        self,
        pool: Pool,
        *,
        awaited: bool,
        trace_context: Mapping[str, str] | None,
        waker: Waker | None = None,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        """`waker` tells the relay of the commit; `on_commit` is called in the moment in which it returns."""
        self._lent = pool.connection()
        self._waker = waker
        self._on_commit = on_commit
        self._begun = 0.0
        self._awaited = awaited
        self._trace_context = trace_context
        self._connection: psycopg.AsyncConnection | None = None
        self._request_key: RequestKey | None = None

    def done_once(self, request_key: RequestKey | None) -> Self:
        """Make this the work of a request that, when it has a key, is done once however often it comes."""
        self._request_key = request_key
        return self

    async def __aenter__(self) -> psycopg.AsyncConnection:
        self._begun = time.monotonic()
        self._connection = await self._lent.__aenter__()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection = None
        await self._lent.__aexit__(kind, error, trace)

    async def earlier(self) -> Committed | None:
        """Return what this request came to when it was done before, else None: then nobody does it meanwhile.

        Raises IdempotencyKeyInFlightError, IdempotencyKeyReusedError.
        """
        if self._connection is None:
            raise RuntimeError("earlier outside the unit of work")
        if self._request_key is None:
            return None
        found = await idempotency.earlier(self._connection, self._request_key)
        if found is None:
            return None
        event, message_id = found
        history, settled = await idempotency.settled(self._connection, message_id, awaited=self._awaited)
        await self._connection.commit()
        self._on_commit()
        seconds = time.monotonic() - self._begun
        return Committed(event, message_id, history, self._begun, seconds, repeated=True, settled=settled)

    async def commit(self, event: Event) -> Committed:
        """Append the one message of this command, store what it came to under the request's key, and commit."""
        if self._connection is None:
            raise RuntimeError("commit outside the unit of work")
        message_id, history = await append(
            self._connection, event, awaited=self._awaited, trace_context=self._trace_context
        )
        if self._request_key is not None:
            await idempotency.store(self._connection, self._request_key, event, message_id)
        wake = Wake.of(message_id, awaited=self._awaited)
        try:
            await (self._waker.commit(self._connection, wake) if self._waker else self._connection.commit())
        except (psycopg.Error, asyncio.CancelledError) as error:
            await self._connection.close()
            raise OutcomeUnknownError from error
        self._on_commit()
        return Committed(event, message_id, history, self._begun, time.monotonic() - self._begun)


@contextmanager
def refusing(constraint: str, refusal: Exception) -> Iterator[None]:
    """Raise `refusal` in place of the server's complaint that `constraint` is violated."""
    try:
        yield
    except psycopg.IntegrityError as error:
        if error.diag.constraint_name == constraint:
            raise refusal from error
        raise
