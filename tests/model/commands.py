"""The write side: the API's own commands in their own unit of work, committed at once or later."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Self, cast

import psycopg

from api.errors import OutcomeUnknownError
from api.pool import Pool
from api.settings import ApiSettings
from api.unit_of_work import Committed, UnitOfWork
from shared.events.event import Event

Command = Callable[[UnitOfWork], Coroutine[Any, Any, Committed]]

CONNECTIONS: Final = 4
# Nobody else moves meanwhile, so whoever waits at all waits for ever.
LOCK_MILLISECONDS: Final = 20


class BusyError(Exception):
    """A command would have to wait for a lock that somebody on the stage holds."""


class Commands:
    """Runs commands, one at a time, on an event loop of its own."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner()
        self._pool = self._runner.run(self._open_pool())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._pool.close())
        self._runner.close()

    async def _open_pool(self) -> Pool:
        return Pool(self._settings, "commands", size=CONNECTIONS, timeout=5, lock_timeout=LOCK_MILLISECONDS)

    def do(self, command: Command, *, awaited: bool) -> Committed:
        """Run a command. Raises what the command raises, and BusyError."""
        try:
            return self._runner.run(command(UnitOfWork(self._pool, awaited=awaited, trace_context=None)))
        except psycopg.errors.LockNotAvailable as error:
            raise BusyError from error

    def begin(self, command: Command) -> "OpenCommand":
        """Run a command up to its commit. Raises what the command raises, and BusyError."""
        work = _OpenWork(self._pool, awaited=False, trace_context=None)
        opened = OpenCommand(self._runner, work)
        try:
            self._runner.run(opened.begin(command))
        except psycopg.errors.LockNotAvailable as error:
            raise BusyError from error
        return opened


class OpenCommand:
    """A command whose transaction is open: it has its ids, and nobody sees it."""

    def __init__(self, runner: asyncio.Runner, work: "_OpenWork") -> None:
        self._runner = runner
        self._work = work

    @property
    def event(self) -> Event:
        """What happens when it is committed."""
        assert self._work.event
        return self._work.event

    async def begin(self, command: Command) -> None:
        """Return when it is about to commit."""
        self._task = asyncio.create_task(command(self._work))
        at_commit = asyncio.create_task(self._work.at_commit.wait())
        await asyncio.wait({self._task, at_commit}, return_when=asyncio.FIRST_COMPLETED)
        at_commit.cancel()
        if self._task.done():
            await self._task

    def commit(self) -> Committed:
        """Let it be committed."""
        self._work.may_commit.set()
        return self._runner.run(self._finished())

    def roll_back(self) -> None:
        """Let it come to nothing; the ids it has taken are never used."""
        self._task.cancel()
        with suppress(OutcomeUnknownError, asyncio.CancelledError):
            self._runner.run(self._finished())

    async def _finished(self) -> Committed:
        return await self._task


class _OpenWork(UnitOfWork):
    """A unit of work that commits when it may."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.at_commit = asyncio.Event()
        self.may_commit = asyncio.Event()
        self.event: Event | None = None

    async def commit(self, event: Event) -> Committed:
        self.event = event
        self._connection = cast("psycopg.AsyncConnection", _WaitsToCommit(self._connection, self))
        return await super().commit(event)


class _WaitsToCommit:
    """A connection, but for when it commits."""

    def __init__(self, connection: psycopg.AsyncConnection | None, work: _OpenWork) -> None:
        self._connection = connection
        self._work = work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def commit(self) -> None:
        self._work.at_commit.set()
        await self._work.may_commit.wait()
        assert self._connection
        await self._connection.commit()
