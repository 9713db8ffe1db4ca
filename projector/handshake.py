"""The handshake: while messages are settled, both databases record the same number, so neither goes back unnoticed.

Nothing is settled unless hands were shaken a short while before, and they are shaken again a short while after. Once
either database was put back in time, or lost what it had acknowledged, its number is lower than the other's for good,
see Installation.refusal. MongoDB is proposed the next number before PostgreSQL commits it, so a process that dies in
between leaves nothing that looks like a loss.

A handshake is a durable write on either side, one after the other. After a rest a batch does not wait for it to write:
it looks whether MongoDB still holds what it held, and hands are shaken while it writes.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg
import pymongo
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

from projector.retry import TRANSIENT, retrying
from projector.settings import ProjectorSettings
from shared.history import HANDSHAKE
from shared.installation import (
    MARK,
    READ_INSTALLATION,
    ForeignReadModelsError,
    Installation,
    read_installation,
    read_mark,
)
from shared.mongo import META, Document
from shared.postgres import connect

# A copy of a database that is younger than this, when something is settled, may be put back unnoticed.
EVERY_SECONDS: Final = 0.1
# How long it takes to notice the end.
END_SECONDS: Final = 0.2
STATEMENT_TIMEOUT_MILLISECONDS: Final = 10_000

# The row's lock keeps other projectors' handshakes out until this one is committed.
TAKE: Final = f"""
    WITH taken AS (UPDATE handshake SET number = number + 1 RETURNING number)
    {READ_INSTALLATION.replace(HANDSHAKE, "(SELECT number FROM taken)")}
"""

# That the number is agreed upon, every write that a majority acknowledges afterwards carries along.
SOON_DURABLE: Final = WriteConcern(w=1)


def shake_hands(connection: psycopg.Connection, database: Database[Document]) -> Installation:
    """Record the next number on both sides and return the installation with it. `connection` is in autocommit mode.

    Raises ForeignReadModelsError when the numbers are not at one, NotMigratedError when there are no tables.
    """
    meta = database[META]
    with connection.transaction():
        taken = read_installation(connection, TAKE)
        known, proposed = taken.handshake - 1, taken.handshake
        at_one = {**MARK, **taken.mark, "$or": [{"agreed": known}, {"proposed": known}]}
        if not meta.update_one(at_one, {"$set": {"agreed": known, "proposed": proposed}}).matched_count:
            raise ForeignReadModelsError("the read models are no longer those of this installation")
    agreed = meta.with_options(write_concern=SOON_DURABLE)
    agreed.update_one({**MARK, "proposed": proposed}, {"$set": {"agreed": proposed}})
    return taken


class Handshake:
    """Keeps hands shaken for all lanes of a projector."""

    def __init__(self, settings: ProjectorSettings, name: str, database: Database[Document]) -> None:
        self._settings = settings
        self._name = f"{name} handshake"
        self._database = database
        self._one_shakes = threading.Lock()
        self._connection: psycopg.Connection | None = None
        self._begun = float("-inf")
        self._shaken: Installation | None = None
        self._due = threading.Event()
        self._at_once = threading.Event()

    def before_writing(self) -> None:
        """Return once MongoDB is known to hold what it held. If this raises, nothing may be written.

        Hands that were not shaken a short while ago are shaken meanwhile.
        """
        if self._is_recent():
            return
        if self._shaken and self._shaken.is_kept_by(read_mark(self._database), self._shaken.handshake):
            self._at_once.set()
            self._due.set()
        else:
            self.before_settling()

    def before_settling(self) -> None:
        """Return once hands were shaken a short while ago. If this raises, nothing may be settled."""
        with self._one_shakes:
            if not self._is_recent():
                self._shake()

    def settled(self) -> None:
        """Say that a batch was committed."""
        self._due.set()

    def run(self, stop: threading.Event, on_refused: Callable[[], None]) -> None:
        """Shake hands after what was settled, until `stop` is set, and then a last time: nothing is settled after that.

        `on_refused` is called when the numbers are no longer at one. Other faults are those that the lanes report.
        """

        def doubt(error: BaseException, _: float) -> None:
            if isinstance(error, ForeignReadModelsError):
                on_refused()

        for attempt in retrying(stop, on_retry=doubt):
            with attempt:
                while not stop.is_set():
                    if self._due.wait(END_SECONDS):
                        self._wait_for_more(stop)
                        self._shake_if_due()
        with suppress(*TRANSIENT):
            self._shake_if_due()
        self._close()

    def _wait_for_more(self, stop: threading.Event) -> None:
        """Wait, so that one handshake serves many batches, unless somebody cannot."""
        end = time.monotonic() + EVERY_SECONDS
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if self._at_once.wait(min(left, END_SECONDS)):
                break

    def _is_recent(self) -> bool:
        return time.monotonic() - self._begun < EVERY_SECONDS

    def _shake_if_due(self) -> None:
        with self._one_shakes:
            if self._due.is_set():
                self._shake()

    def _shake(self) -> None:
        # What is settled from here on may come after the number.
        self._at_once.clear()
        self._due.clear()
        begun = time.monotonic()
        try:
            with pymongo.timeout(self._settings.connect_timeout_seconds):
                self._shaken = shake_hands(self._connected(), self._database)
        except BaseException:
            self._due.set()
            self._close()
            raise
        self._begun = begun

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = connect(
                self._settings, self._name, autocommit=True, statement_timeout=STATEMENT_TIMEOUT_MILLISECONDS
            )
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
