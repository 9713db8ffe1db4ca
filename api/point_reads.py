"""Reads of single documents, of which those that come at the same time are asked for in one command.

A command costs the driver more than its documents do. So what comes while commands are under way waits for the end of
one, and goes together in the next: a reader sees nothing older than its own beginning, and one that is alone waits for
nobody. Readers share a command, never a fate. Whoever goes away is left out. A command that hangs is not waited for.
What is said against a command of several readers is told to none of them: each asks again, alone.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextvars import Context
from typing import Final

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConnectionFailure

from shared.mongo import Document
from shared.read_models import ALIVE

# A second command fills the time in which the first one's answer is decoded.
COMMANDS_AT_ONCE: Final = 2
MOST_IDS: Final = 100
# Commands that hang hold nobody up for longer.
PATIENCE_SECONDS: Final = 0.02


class PointReads:
    """The reads by id of one collection. Lives on one event loop."""

    def __init__(self, collection: AsyncCollection[Document]) -> None:
        self._collection = collection
        self._waiting: list[tuple[int, asyncio.Future[Document | None]]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._patience: asyncio.TimerHandle | None = None

    async def document(self, document_id: int) -> Document | None:
        """Return the document that has this id and is not deleted, or None. Raises PyMongo's errors."""
        reader: asyncio.Future[Document | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((document_id, reader))
        self._begin()
        try:
            return await reader
        except ConnectionFailure:
            # The server was not reached, whatever it was asked for.
            raise
        except _SharedError:
            return await self._collection.find_one({"_id": document_id, **ALIVE})

    def _begin(self, *, at_once: int = COMMANDS_AT_ONCE) -> None:
        """Send what somebody waits for, as long as fewer commands than `at_once` are under way."""
        while self._waiting and len(self._under_way) < at_once:
            readers, self._waiting = self._waiting[:MOST_IDS], self._waiting[MOST_IDS:]
            # Nothing of the request that happens to come first: neither its deadline nor what its log lines carry.
            command = asyncio.get_running_loop().create_task(self._ask(readers), context=Context())
            self._under_way.add(command)
            command.add_done_callback(self._end)
        if self._waiting and self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._begin_anyway)
        elif self._patience and not self._waiting:
            self._patience.cancel()
            self._patience = None

    def _begin_anyway(self) -> None:
        self._patience = None
        self._begin(at_once=sys.maxsize)

    def _end(self, command: asyncio.Task[None]) -> None:
        self._under_way.discard(command)
        self._begin()

    async def _ask(self, readers: Sequence[tuple[int, asyncio.Future[Document | None]]]) -> None:
        readers = [(document_id, reader) for document_id, reader in readers if not reader.done()]
        ids = list({document_id for document_id, _ in readers})
        if not ids:
            return
        wanted = {"_id": ids[0] if len(ids) == 1 else {"$in": ids}, **ALIVE}
        try:
            found = {document["_id"]: document for document in await self._collection.find(wanted).to_list()}
        except Exception as error:  # noqa: BLE001 - it is told to those who asked, whatever it is
            shared = len(ids) > 1 and not isinstance(error, ConnectionFailure)
            for _, reader in readers:
                if not reader.done():
                    reader.set_exception(_SharedError() if shared else error)
        else:
            for document_id, reader in readers:
                if not reader.done():
                    reader.set_result(found.get(document_id))


class _SharedError(Exception):
    """A command of several readers failed: which of them it is about is not known."""
