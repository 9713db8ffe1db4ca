"""Whose read models are these? Asked before the absence of a message is taken for its visibility.

A PostgreSQL that was put back in time lacks messages that were never settled, and a MongoDB that was put back lacks
what was. The former is another incarnation, and is looked at once for each. The latter may happen to databases whose
server goes on, as when a dump is restored into it: so the mark is read again each time.
"""

import asyncio
from typing import cast
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from api.errors import OverloadedError
from api.pool import Pool
from shared.installation import MARK, MARK_MILLISECONDS, MARK_OPTIONS, READ_INSTALLATION, REMEDY, Installation
from shared.mongo import META, Document
from shared.outbox.lookup import AsOf


class Provenance:
    """Knows for which incarnation of the write model it has seen that the read models are those made from it."""

    def __init__(self, pool: Pool, database: AsyncDatabase[Document]) -> None:
        self._pool = pool
        self._marks = database[META]
        self._primarys_marks = database.get_collection(META, **MARK_OPTIONS)
        self._one_looks = asyncio.Lock()
        self._looks_begun = 0
        self._proven: Installation | None = None

    async def holds(self, as_of: AsOf, session: AsyncClientSession | None = None) -> bool:
        """Return whether the read models hold all that was settled in the write model `as_of` then.

        True of what was read before this was called, in `session`. Raises the drivers' errors.
        """
        if self._is_proven(as_of.incarnation):
            mark = await self._marks.find_one(MARK, session=session, max_time_ms=MARK_MILLISECONDS)
            if self._proven and self._is_proven(as_of.incarnation) and self._proven.is_kept_by(mark, as_of.handshake):
                return True
        # A secondary may be behind. Else the primary, too, will say that something was lost.
        await self._look_with_others()
        return self._is_proven(as_of.incarnation)

    async def is_known_to_hold(self, as_of: AsOf) -> bool:
        """Return the same, and False when a server cannot be asked."""
        try:
            return await self.holds(as_of)
        except (PyMongoError, psycopg.Error, OverloadedError):
            return False

    async def refusal(self) -> str | None:
        """Look now, and return why the read models are not those of the write model and what to do, or None."""
        async with self._one_looks:
            return await self._look()

    def _is_proven(self, incarnation: UUID) -> bool:
        return self._proven is not None and self._proven.incarnation == incarnation

    async def _look_with_others(self) -> None:
        """Look, unless somebody has begun to after this was called: then what he finds will do."""
        begun = self._looks_begun
        async with self._one_looks:
            if self._looks_begun == begun:
                await self._look()

    async def _look(self) -> str | None:
        self._looks_begun += 1
        try:
            self._proven, refusal = await self._compared()
        except BaseException:
            # Whoever waits for this look does not look again.
            self._proven = None
            raise
        return refusal

    async def _compared(self) -> tuple[Installation | None, str | None]:
        """Return the installation whose read models these are, or why they are not."""
        installation = await self._installation()
        while True:
            mark = await self._primarys_marks.find_one(MARK, max_time_ms=MARK_MILLISECONDS)
            if mark is None and not installation.has_read_models:
                return None, None  # nobody's, and nothing is settled yet
            refusal = installation.refusal(mark)
            if refusal is None:
                return installation, None
            before, installation = installation, await self._installation()
            # Else hands were shaken between the two looks.
            if installation == before:
                return None, f"{refusal}: {REMEDY}"

    async def _installation(self) -> Installation:
        async with self._pool.connection(autocommit=True) as connection:
            cursor = await connection.cursor(row_factory=class_row(Installation)).execute(READ_INSTALLATION)
            return cast("Installation", await cursor.fetchone())
