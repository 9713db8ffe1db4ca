"""A whole import: one chunk of entries after the other, each committed, reported and made known to the relay.

What is committed stays, whatever ends the run, and the same run again adds the rest.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import psycopg

from api.catalogue import repository
from api.catalogue.commands import import_chunk
from api.catalogue.entries import BadLine, Entry, ItemEntry, UserEntry
from shared.progress import Progress

CHUNK_ENTRIES: Final = 5_000
LOCK_POLL_SECONDS: Final = 0.5


@dataclass(slots=True)
class Totals:
    """What a run has come to so far; `users` and `items` are those it added."""

    users: int = 0
    items: int = 0
    already_there: int = 0
    bad_lines: int = 0


def seed(connection: psycopg.Connection, entries: Iterator[Entry], progress: Progress, totals: Totals) -> None:
    """Import all entries. `connection` is in autocommit mode; `totals` grows with each commit.

    Waits while another import runs. Raises psycopg.errors.UndefinedTable when there is no write model.
    """
    repository.check_tables(connection)
    _hold_lock(connection, progress.say)
    while chunk := list(islice(entries, CHUNK_ENTRIES)):
        users = [entry for entry in chunk if isinstance(entry, UserEntry)]
        items = [entry for entry in chunk if isinstance(entry, ItemEntry)]
        imported = import_chunk(connection, users, items)
        bad = [entry for entry in chunk if isinstance(entry, BadLine)] + list(imported.refused)
        totals.users += imported.users
        totals.items += imported.items
        totals.already_there += imported.already_there
        totals.bad_lines += len(bad)
        if imported.first_message is not None:
            repository.wake_relay(connection, imported.first_message)
        for entry in sorted(bad, key=lambda entry: entry.line):
            progress.say(f"line {entry.line}: {entry.reason}")
        progress.advance(chunk[-1].line)


def _hold_lock(connection: psycopg.Connection, say: Callable[[str], None]) -> None:
    if repository.try_lock(connection):
        return
    say("another import is running, waiting for it to end")
    while not repository.try_lock(connection):
        time.sleep(LOCK_POLL_SECONDS)
