"""One deadline bounds everything behind a request: from the moment its body is there until its answer is made.

The time that a client prefers to wait comes on top. A write that is committed cannot fail any more, so from then on
only its wait bounds it. What is done for a client that has gone away is given up, unless it ends in a moment anyway.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import Request
from starlette.types import Receive

from api.errors import DeadlineError

# A driver asks its server to give a statement up, and waits for that. A server that is silent does not get longer.
GRACE_SECONDS: Final = 1.0
# Most requests are over before this; only for the others somebody looks whether the client is still there.
PATIENCE_SECONDS: Final = 1.0


class ClientGoneError(Exception):
    """The client closed the connection before it was answered. Nobody is left to be told."""


class Deadline:
    """The time by which the work behind one request must be done."""

    def __init__(self, work: asyncio.Timeout, grace: asyncio.Timeout) -> None:
        self._work = work
        self._grace = grace
        self._watcher: asyncio.Task[None] | None = None
        self.client_gone = False

    def extend(self, seconds: float) -> None:
        """Give the work so much longer: the client is willing to wait."""
        for bound in (self._work, self._grace):
            when = bound.when()
            bound.reschedule(None if when is None else when + seconds)

    def lift(self) -> None:
        """From now on the work is bounded by itself, and must be answered."""
        self._work.reschedule(None)
        self._grace.reschedule(None)

    def watch(self, receive: Receive) -> None:
        """Give the work up when the client goes away."""
        self._watcher = asyncio.create_task(self._give_up_without_client(receive))

    def close(self) -> None:
        """The work is done."""
        if self._watcher:
            self._watcher.cancel()

    async def _give_up_without_client(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.client_gone = True
        now = asyncio.get_running_loop().time()
        self._work.reschedule(now)
        self._grace.reschedule(now + GRACE_SECONDS)


@asynccontextmanager
async def within_deadline(request: Request, seconds: float) -> AsyncIterator[None]:
    """Bound what is done inside. Raises DeadlineError when the time is over, ClientGoneError without a client."""
    grace, work = asyncio.timeout(seconds + GRACE_SECONDS), asyncio.timeout(seconds)
    deadline = request.scope["deadline"] = Deadline(work, grace)
    try:
        async with grace, work:
            look = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, deadline.watch, request.receive)
            try:
                yield
            finally:
                look.cancel()
                deadline.close()
    except TimeoutError as error:
        if not work.expired():
            raise
        raise (ClientGoneError if deadline.client_gone else DeadlineError) from error


def deadline_of(request: Request) -> Deadline:
    """Return the deadline of this request."""
    deadline: Deadline = request.scope["deadline"]
    return deadline
