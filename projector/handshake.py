"""The handshake: while messages are settled, both databases record the same number, so neither goes back unnoticed.

Once either was restored, or lost what it had acknowledged, its number is lower than the other's for good, see
Installation.refusal. MongoDB is offered the next number before PostgreSQL commits it, so a process that dies in between
leaves nothing that looks like a loss.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import psycopg
import pymongo
from psycopg.rows import class_row
from pymongo.database import Database

from projector.retry import TRANSIENT, retrying
from projector.settings import ProjectorSettings
from shared.installation import MARK, READ_INSTALLATION, ForeignReadModelsError, Installation
from shared.mongo import META, Document
from shared.postgres import connect

# What was settled since the last handshake is what can be lost unnoticed.
EVERY_SECONDS: Final = 1.0
STATEMENT_TIMEOUT_MILLISECONDS: Final = 10_000

# The row's lock keeps other projectors' handshakes out until this one is committed.
TAKE: Final = f"""
    WITH installation AS (UPDATE installation SET handshake = handshake + 1 RETURNING *)
    {READ_INSTALLATION}
"""


def shake_hands(connection: psycopg.Connection, database: Database[Document]) -> None:
    """Record the next number on both sides. `connection` is in autocommit mode.

    Raises ForeignReadModelsError when the numbers are not at one.
    """
    meta = database[META]
    with connection.transaction():
        taken = connection.cursor(row_factory=class_row(Installation)).execute(TAKE).fetchone()
        if taken is None:
            return
        known, offered = taken.handshake - 1, taken.handshake
        at_one = {**MARK, **taken.mark, "$or": [{"handshake": known}, {"offered": known}, {"offered": None}]}
        if not meta.update_one(at_one, {"$set": {"handshake": known, "offered": offered}}).matched_count:
            raise ForeignReadModelsError("the read models are no longer those of this installation")
    meta.update_one({**MARK, "offered": offered}, {"$set": {"handshake": offered}})


class Handshake:
    """Shakes hands once a second while this projector settles messages, and once more at its end."""

    def __init__(self, settings: ProjectorSettings, name: str, database: Database[Document]) -> None:
        self._settings = settings
        self._name = f"{name} handshake"
        self._database = database
        self._due = threading.Event()

    def settled(self) -> None:
        """Say that a batch was committed."""
        self._due.set()

    def run(self, stop: threading.Event, on_refused: Callable[[], None]) -> None:
        """Shake hands when it is due, until `stop` is set, and then a last time: nothing is to be settled after that.

        `on_refused` is called when the numbers are no longer at one. Other faults are those that the lanes report.
        """

        def doubt(error: BaseException, _: float) -> None:
            if isinstance(error, ForeignReadModelsError):
                on_refused()

        for attempt in retrying(stop, on_retry=doubt):
            with attempt, self._connect() as connection:
                while not stop.wait(EVERY_SECONDS):
                    self.run_once(connection)
        with suppress(*TRANSIENT), self._connect() as connection:
            self.run_once(connection)

    def run_once(self, connection: psycopg.Connection) -> None:
        """Shake hands if a batch was committed since the last time."""
        if not self._due.is_set():
            return
        self._due.clear()
        try:
            with pymongo.timeout(self._settings.connect_timeout_seconds):
                shake_hands(connection, self._database)
        except BaseException:
            self._due.set()
            raise

    def _connect(self) -> psycopg.Connection:
        return connect(self._settings, self._name, autocommit=True, statement_timeout=STATEMENT_TIMEOUT_MILLISECONDS)
