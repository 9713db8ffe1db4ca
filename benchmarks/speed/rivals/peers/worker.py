"""What every peer does: read its documents, put them into its queue, and handle each by writing it to MongoDB."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.write_concern import WriteConcern

Handler = Callable[[str | bytes], Awaitable[None]]
TIMES = ("created_at", "updated_at")


class Sink:
    """Writes documents one by one, as a handler of messages does, and knows when all are there."""

    def __init__(self, expected: int) -> None:
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(os.environ["MONGO_URL"], tz_aware=True)
        database = self._client.get_database(
            os.environ["MONGO_DATABASE"], write_concern=WriteConcern("majority", j=True)
        )
        self._items = database["items_peer"]
        self._left = expected
        self._begun: float | None = None
        self.done = asyncio.Event()
        self.seconds = 0.0

    async def handle(self, body: str | bytes) -> None:
        """Write the document of one message, however often it comes."""
        if self._begun is None:
            self._begun = time.perf_counter()
        document = json.loads(body)
        document |= {name: datetime.fromisoformat(document[name]) for name in TIMES}
        await self._items.replace_one({"_id": document["_id"]}, document, upsert=True)
        self._left -= 1
        if self._left == 0:
            self.seconds = time.perf_counter() - self._begun
            self.done.set()


def bodies(count: int) -> list[str]:
    """Return the first documents of the file that DOCUMENTS names, each as JSON."""
    with Path(os.environ["DOCUMENTS"]).open(encoding="utf-8") as documents:
        return [line.rstrip("\n") for _, line in zip(range(count), documents, strict=False)]


async def drained(run: Callable[[Sink], Awaitable[None]], count: int) -> None:
    """Let `run` work until all documents are there, and print the seconds from the first one's coming.

    What a peer takes to start and to connect is not counted: ours runs already.
    """
    sink = Sink(count)
    working = asyncio.ensure_future(run(sink))
    await asyncio.wait([working, asyncio.ensure_future(sink.done.wait())], return_when=asyncio.FIRST_COMPLETED)
    if not sink.done.is_set():
        working.result()  # it ended early: say why
        raise SystemExit("the peer stopped before everything was handled")
    sys.stdout.write(f"{sink.seconds}\n")
    sys.stdout.flush()
    os._exit(0)  # measured; how a peer shuts down is not


def main(fill: Callable[[list[str]], Awaitable[None]], run: Callable[[Sink], Awaitable[None]]) -> None:
    """Do what the command line says."""
    verb, count = sys.argv[1], int(sys.argv[2])
    asyncio.run(fill(bodies(count)) if verb == "fill" else drained(run, count))
