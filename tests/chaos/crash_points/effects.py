"""What this process sends to the two databases, told before each effect is sent, and after its answer is here.

MongoDB's driver has listeners for it. PostgreSQL's has none: there it is the driver's own methods that are wrapped,
those through which synchronous and asynchronous connections alike send statements, BEGIN and COMMIT included.
"""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, Literal

import psycopg
from psycopg._connection_base import BaseConnection
from psycopg._cursor_base import BaseCursor
from pymongo import monitoring

Moment = Literal["before", "after"]
Watcher = Callable[[Moment, str], None]

POSTGRES: Final = "PostgreSQL"
MONGODB: Final = "MongoDB"

_WRITES: Final = re.compile(r"(?<!FOR )(?<!KEY )\b(?:INSERT INTO|DELETE FROM|UPDATE|COPY)\s+\w+")
_CALLS: Final = re.compile(r"\b(?:pg_\w*advisory\w+|pg_notify|set_config)\b")
_READS: Final = re.compile(r"\bFROM\s+(\w+)")
_LOCKS: Final = re.compile(r"\bFOR (?:NO KEY )?(?:UPDATE|SHARE)\b")
# Several commands that are sent at once.
_TOGETHER: Final = re.compile(r"\b(?:BEGIN|COMMIT|NOTIFY|EXECUTE \w+)")
_BEGINNING: Final = re.compile(r"\w+(?: \w+)?")
_INNERMOST: Final = re.compile(r"\([^()]*\)")
_SHADOW: Final = re.compile(r"_shadow_[0-9a-f]+")

# MongoDB's own: sessions of clients that are closed.
_NO_EFFECT: Final = frozenset({"endSessions"})

_watching: Final[ContextVar[bool]] = ContextVar("watching", default=False)


@contextmanager
def watching(*, is_on: bool = True) -> Iterator[None]:
    """Tell of the effects inside: those of this thread or task, not of others that were there before."""
    token = _watching.set(is_on)
    try:
        yield
    finally:
        _watching.reset(token)


def unwatched(act: Callable[..., Any]) -> Callable[..., Any]:
    """Return `act`, whose effects are not told."""

    @wraps(act)
    def run(*arguments: Any, **keywords: Any) -> Any:
        with watching(is_on=False):
            return act(*arguments, **keywords)

    return run


def install(watcher: Watcher) -> None:
    """Have `watcher` told of all effects of this process, for good. It may raise, wait, or end the process."""
    # What a listener raises the driver would print and forget.
    monitoring._handle_exception = _raise_again  # noqa: SLF001 - the driver has no other way to let it through
    monitoring.register(_Commands(watcher))

    @contextmanager
    def effect(statement: object) -> Iterator[None]:
        name = f"{POSTGRES} {of_statement(statement)}"
        watcher("before", name)
        try:
            yield
        finally:
            # An error is an answer as well.
            watcher("after", name)

    _wrap_generator(BaseConnection, "_exec_command", lambda command: command, effect)
    _wrap_generator(BaseCursor, "_maybe_prepare_gen", lambda query: query.query, effect)
    _wrap_executemany(effect)
    _wrap_copy(effect)


def of_statement(statement: object) -> str:
    """Return what a statement does, in a few words: what it writes, else whom it calls, else what it reads."""
    text = " ".join((statement.decode() if isinstance(statement, bytes) else str(statement)).split())
    if " PREPARE " in text:
        return "PREPARE"
    if together := _TOGETHER.findall(text):
        return ", ".join(together)
    if writes := _WRITES.search(text):
        return writes[0]
    if calls := _CALLS.search(text):
        return f"SELECT {calls[0]}"
    outermost = text
    while outermost != (without := _INNERMOST.sub("", outermost)):
        outermost = without
    # What stands in parentheses is beside the point, unless it is a name for what is read.
    if reads := next((read for read in _READS.findall(outermost) if f"{read} AS (" not in text), None) or _read(text):
        return f"SELECT FROM {reads}{' FOR ' + lock[0].split()[-1] if (lock := _LOCKS.search(text)) else ''}"
    beginning = _BEGINNING.search(text)
    return beginning[0] if beginning else text


def _read(text: str) -> str | None:
    found = _READS.search(text)
    return found[1] if found else None


def of_command(name: str, command: Any) -> str:
    """Return what a command does, in a few words. Shadows have no names of their own."""
    where = command.get("collection") if name == "getMore" else command.get(name)
    places = [where, command.get("to")] if name == "renameCollection" else [where]
    shown = [str(place).rpartition(".")[2] for place in places if isinstance(place, str)]
    return _SHADOW.sub("_shadow", " ".join([name, " over ".join(shown)])).strip()


def _raise_again() -> None:
    raise  # noqa: PLE0704 - called while the driver handles what a listener raised


class _Commands(monitoring.CommandListener):
    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._names: dict[int, str] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if not _watching.get() or event.command_name in _NO_EFFECT:
            return
        name = f"{MONGODB} {of_command(event.command_name, event.command)}"
        self._names[event.request_id] = name
        self._watcher("before", name)

    def succeeded(self, event: monitoring.CommandSucceededEvent | monitoring.CommandFailedEvent) -> None:
        if name := self._names.pop(event.request_id, None):
            self._watcher("after", name)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self.succeeded(event)


def _wrap_generator(place: type, method: str, statement_of: Callable[[Any], object], effect: Any) -> None:
    original = getattr(place, method)

    @wraps(original)
    def run(self: Any, first: Any, *arguments: Any, **keywords: Any) -> Generator[Any, Any, Any]:
        if not _watching.get():
            return (yield from original(self, first, *arguments, **keywords))
        with effect(statement_of(first)):
            return (yield from original(self, first, *arguments, **keywords))

    setattr(place, method, run)


def _wrap_executemany(effect: Any) -> None:
    """Take a statement with many rows as one effect: they are sent as one."""
    original = psycopg.Cursor.executemany

    @wraps(original)
    def run(self: Any, statement: Any, rows: Any, **keywords: Any) -> None:
        if not _watching.get():
            return original(self, statement, rows, **keywords)
        with effect(statement), watching(is_on=False):
            return original(self, statement, rows, **keywords)

    psycopg.Cursor.executemany = run


def _wrap_copy(effect: Any) -> None:
    original = psycopg.Cursor.copy

    @wraps(original)
    @contextmanager
    def run(self: Any, statement: Any, *arguments: Any, **keywords: Any) -> Iterator[Any]:
        if not _watching.get():
            with original(self, statement, *arguments, **keywords) as copy:
                yield copy
            return
        with effect(statement), original(self, statement, *arguments, **keywords) as copy:
            yield copy

    psycopg.Cursor.copy = run
