"""Whose read models are these? Asked before the absence of a message is taken for its visibility.

A PostgreSQL that was put back in time lacks messages that were never settled, and a MongoDB that was put back lacks
what was. Neither can happen to a server while it runs, so what was proven of two server processes is not asked again.
"""

import asyncio
from typing import Final
from uuid import UUID

from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.installation import MARK, MARK_MILLISECONDS, MARK_OPTIONS, READ_INSTALLATION, REMEDY, Installation
from shared.mongo import META, Document, known_processes

NO_PROCESS: Final[frozenset[ObjectId]] = frozenset()


class Provenance:
    """Knows for which incarnation of the write model, and which processes of mongod, the marks were at one."""

    def __init__(self, engine: AsyncEngine, database: AsyncDatabase[Document]) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._database = database
        self._meta = database.get_collection(META, **MARK_OPTIONS)
        self._one_looks = asyncio.Lock()
        self._incarnation: UUID | None = None
        self._processes = NO_PROCESS

    def is_proven(self, incarnation: UUID) -> bool:
        """Return whether the read models are those of this incarnation, as far as is known without asking anybody."""
        known = known_processes(self._database.client)
        return self._incarnation == incarnation and NO_PROCESS < known <= self._processes

    async def holds(self, incarnation: UUID) -> bool:
        """Return whether the read models are those of this incarnation. Raises the drivers' errors."""
        if not self.is_proven(incarnation):
            async with self._one_looks:
                if not self.is_proven(incarnation):
                    await self._look()
        return self.is_proven(incarnation)

    async def is_known_to_hold(self, incarnation: UUID) -> bool:
        """Return the same, and False when a server cannot be asked."""
        try:
            return await self.holds(incarnation)
        except (PyMongoError, SQLAlchemyError):
            return False

    async def refusal(self) -> str | None:
        """Look now, and return why the read models are not those of the write model and what to do, or None."""
        async with self._one_looks:
            return await self._look()

    async def _look(self) -> str | None:
        processes = known_processes(self._database.client)
        installation = await self._installation()
        while True:
            mark = await self._meta.find_one(MARK, max_time_ms=MARK_MILLISECONDS)
            if mark is None and not installation.has_read_models:
                return None  # nobody's, and nothing is settled yet
            refusal = installation.refusal(mark)
            if refusal is None:
                self._incarnation = installation.incarnation
                self._processes = processes or known_processes(self._database.client)
                return None
            before, installation = installation, await self._installation()
            # Else hands were shaken between the two looks.
            if installation == before:
                self._incarnation = None
                return f"{refusal}: {REMEDY}"

    async def _installation(self) -> Installation:
        async with self._engine.connect() as connection:
            row = (await connection.exec_driver_sql(READ_INSTALLATION)).one()
        return Installation(**row._mapping)  # noqa: SLF001 - a public name, underscored to leave room for columns
