"""Housekeeping: what has expired is deleted now and then, a small batch at a time.

Nothing depends on when this happens: whoever reads an idempotency key looks at its age.
"""

import threading
from collections.abc import Callable
from typing import Final

import psycopg

from projector.settings import ProjectorSettings
from shared.postgres import connect
from shared.write_model.idempotency_key import KEPT

EVERY_SECONDS: Final = 300.0
BATCH: Final = 1_000
STATEMENT_TIMEOUT_MILLISECONDS: Final = 10_000

# Any number of projectors may purge at once: none waits for another, nor for a command that takes an old key anew.
PURGE_KEYS: Final = """
    DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM idempotency_keys WHERE created_at <= clock_timestamp() - %(kept)s
        ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ))
"""


class Housekeeping:
    """Purges idempotency keys. `run_once` deletes one batch, on a connection of its own."""

    def __init__(self, settings: ProjectorSettings, name: str) -> None:
        self._settings = settings
        self._name = f"{name} housekeeping"

    def run(
        self,
        stop: threading.Event,
        on_purge: Callable[[int], None],
        on_fault: Callable[[psycopg.Error], None],
    ) -> None:
        """Purge every few minutes until `stop` is set. A fault is reported, and the next round tries again."""
        while not stop.is_set():
            purged = 0
            try:
                purged = self.run_once()
                on_purge(purged)
            except psycopg.Error as error:
                on_fault(error)
            if purged < BATCH:
                stop.wait(EVERY_SECONDS)

    def run_once(self) -> int:
        """Delete up to a batch of expired keys and return how many."""
        with connect(
            self._settings, self._name, autocommit=True, statement_timeout=STATEMENT_TIMEOUT_MILLISECONDS
        ) as connection:
            return connection.execute(PURGE_KEYS, {"kept": KEPT, "limit": BATCH}).rowcount
