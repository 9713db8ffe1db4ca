"""What browsers are sent while they watch: one poller for all of them, at work only while somebody watches.

A stream is server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): `history` once, then
`sight` every second, and `end` when this projector stops. A browser that reads slowly misses sights, and nobody waits
for it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

from projector.lookout import Lookout, Sight
from projector.status import Overview, throughput

EVERY_SECONDS: Final = 1.0
KEPT_SECONDS: Final = 120
MAX_STREAMS: Final = 32

# Moment (seconds since 1970), lag in seconds, throughput per second or None, backlog.
Point = tuple[float, float, float | None, int]


class Feed:
    """Belongs to the event loop of the HTTP server; only `end` and the streams touch it."""

    def __init__(self, lookout: Lookout) -> None:
        self._lookout = lookout
        self._history: deque[Point] = deque(maxlen=round(KEPT_SECONDS / EVERY_SECONDS))
        self._before: Overview | None = None
        self._rate: float | None = None
        self._latest = b""
        self._turn = asyncio.Event()
        self._streams = 0
        self._poller: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def is_full(self) -> bool:
        """Whether as many watch as one projector serves."""
        return self._streams >= MAX_STREAMS

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield events until the browser leaves or this projector stops."""
        self._streams += 1
        try:
            yield _event("history", list(self._history))
            while not self._ended:
                if self._poller is None or self._poller.done():
                    self._poller = asyncio.create_task(self._poll())
                await self._turn.wait()
                yield self._latest
        finally:
            self._streams -= 1

    def end(self) -> None:
        """Let every stream end now."""
        self._ended = True
        self._publish(_event("end", None))

    async def _poll(self) -> None:
        # What nobody watched is a gap, not a line.
        self._history.clear()
        self._before = self._rate = None
        while self._streams and not self._ended:
            sight = await asyncio.to_thread(self._lookout.look)
            if not self._ended:
                self._publish(_event("sight", self._note(sight)))
            await asyncio.sleep(EVERY_SECONDS)

    def _note(self, sight: Sight) -> dict[str, Any]:
        """Remember what was seen and return it as browsers get it."""
        overview, before = sight.overview, self._before
        # The same overview is told again while a new one is not there yet.
        if overview and (before is None or overview.at > before.at):
            self._rate = throughput(before, overview) if before else None
            self._before = overview
            # Whole milliseconds, as the browser reads the moment of a sight.
            moment = int(overview.at.timestamp() * 1000) / 1000
            self._history.append((moment, overview.outbox.lag_seconds, self._rate, overview.outbox.backlog))
        return as_json(sight) | {"throughput": self._rate}

    def _publish(self, event: bytes) -> None:
        self._latest = event
        turn, self._turn = self._turn, asyncio.Event()
        turn.set()


def as_json(sight: Sight) -> dict[str, Any]:
    """Return what was seen as one object."""
    return {
        "overview": sight.overview and sight.overview.as_json(),
        "postgres_fault": sight.postgres_fault,
        "mongo_fault": sight.mongo_fault,
    }


def _event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(data))
