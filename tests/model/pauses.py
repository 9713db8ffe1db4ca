"""Where actors stop: before each statement to PostgreSQL and each command to MongoDB, told in a few words."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import psycopg
from psycopg import sql
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from projector import backlog, failures, lanes, outbox, owners, replays, suspects
from projector.batch import PREPARED
from shared.outbox import append
from tests.model.stage import stop_before

READS: Final = ("find", "getMore", "aggregate", "listCollections", "ping", "killCursors")
# Between these and what comes next nothing can happen that could not happen before or afterwards.
UNINTERESTING: Final = ("createIndexes", "listCollections", "getMore", "collMod", "ping", "killCursors")
LENGTH: Final = 70

# What the statements of relays and replays are for.
MEANINGS: Final = {
    suspects.TAKE_OVER: "looks for lanes that are gone",
    suspects.ANNOUNCE: "says that it is at work",
    suspects.LOWEST: "looks for suspects",
    suspects.RECORD: "counts an attempt",
    replays.LOCK_READ_MODELS: "holds the read models",
    replays.HELD.statement: "looks whose they are, and for a replay",
    replays.ADVANCE: "records how far it has copied",
    replays.TOUCH: "says that it is at work",
    replays.AT_WORK: "looks for a replay",
    replays.REGISTER: "registers the shadow",
    replays.TRY_TURN: "takes its turn",
    replays.END_TURN: "ends its turn",
    replays.MOVE: "records the replay's state",
    outbox.CLAIM.statement: "claims",
    outbox.CLAIM_AWAITED.statement: "claims what clients wait for",
    outbox.CLAIM_ONE.statement: "claims one message",
    lanes.ADVANCE: "says that the lane is alive",
    owners.UNMOVED.statement: "looks at the owners of its items",
    outbox.SETTLE.statement: "settles",
    outbox.KEEP: "keeps what is not finished",
    outbox.NOTIFY: "tells who waits for dead letters",
    backlog.IN_FLIGHT: "looks for messages on their way",
    backlog.UNSETTLED: "looks for messages that are left",
    backlog.FAILED_FOR_GOOD: "looks for dead letters",
    lanes.SETTLED_TIME: "looks up to when all is settled",
    failures.CLAIM_DUE.statement: "claims what failed",
    failures.CLAIM_ONE_FAILED.statement: "claims one that failed",
    failures.FAIL: "records the failures",
    failures.GO_ON: "keeps what is not finished in one table",
    append.APPEND_ALL: "appends messages",
}


# What is sent together with others, by its name in the session.
_EXECUTED: Final = re.compile(r"EXECUTE (\w+)")
_MEANINGS_BY_NAME: Final = {prepared.name: MEANINGS[prepared.statement] for prepared in PREPARED}


class PausingCursor(psycopg.Cursor[Any]):
    """A cursor of a connection whose `cursor_factory` it is."""

    def execute(self, query: Any, *arguments: Any, **keywords: Any) -> Any:
        """Wait, then execute."""
        told = _in_short(query)
        if not told.startswith("SET "):
            stop_before(told)
        return super().execute(query, *arguments, **keywords)

    def executemany(self, query: Any, *arguments: Any, **keywords: Any) -> None:
        """Wait, then execute."""
        stop_before(_in_short(query))
        super().executemany(query, *arguments, **keywords)

    def copy(self, statement: Any, *arguments: Any, **keywords: Any) -> Any:
        """Wait, then copy."""
        stop_before(_in_short(statement))
        return super().copy(statement, *arguments, **keywords)


class PausingListener(CommandListener):
    """Stops whoever sends a command through a client; `on_write` is told of each that may change something."""

    def __init__(self, on_write: Callable[[], None]) -> None:
        self._on_write = on_write

    def started(self, event: CommandStartedEvent) -> None:
        """Wait; the command is sent afterwards."""
        if event.command_name not in UNINTERESTING:
            stop_before(_told(event.command_name, event.command))
        if event.command_name not in READS:
            self._on_write()

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing."""


def _in_short(query: Any) -> str:
    known = MEANINGS.get(query) if isinstance(query, str) else None
    if known:
        return known
    text = query.as_string(None) if isinstance(query, sql.Composable) else query
    words = " ".join((text.decode() if isinstance(text, bytes) else text).split())
    if executed := _EXECUTED.findall(words):
        return ", ".join(_MEANINGS_BY_NAME[name] for name in executed)
    return words if len(words) <= LENGTH else f"{words[:LENGTH]} ..."


def _told(name: str, command: Mapping[str, Any]) -> str:
    """Return a command with what it writes: ids, and the versions where they are plain."""
    what = [_document(document) for document in command.get("documents", ())]
    what += [_update(update) for update in command.get("updates", ())]
    what += [str(delete["q"]) for delete in command.get("deletes", ())]
    if name == "find":
        what.append(str(command.get("filter", {})))
    return f"{name} {command.get(name)} {', '.join(what)}".rstrip()


def _document(document: Any) -> str:
    found = dict(document)
    gone = " deleted" if "deleted_at" in found else ""
    return f"{found.get('_id')} v{found.get('version')}{gone}"


def _update(update: Mapping[str, Any]) -> str:
    change = update["u"]
    if isinstance(change, list):
        gate = change[0]["$replaceWith"]["$cond"][0]
        ((compare, (_, version)),) = gate.items()
        return f"{update['q']['_id']} v{version} if {compare}"
    return f"{update['q']} to {change}"
