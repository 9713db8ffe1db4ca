"""Housekeeping: what has expired is deleted now and then, a small batch at a time.

Nothing depends on when this happens: whoever reads an idempotency key looks at its age, and what verifications and
replays came to is kept longer than anybody asks for it; the latest of each read model always. So is its latest replay
that is done, which says in which shape documents are made.

Discarded messages stay until a newer version settles, however long: a consistency token has no end, and a message that
is in neither outbox table is settled.
"""

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import psycopg

from projector.rounds import in_rounds, reporting
from projector.settings import ProjectorSettings
from projector.tombstones import TombstonePurge
from shared import retention
from shared.postgres import connect

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

PURGE_VERIFICATIONS: Final = """
    DELETE FROM verifications WHERE id = ANY(ARRAY(
        SELECT id FROM verifications AS old
        WHERE ended_at <= clock_timestamp() - %(kept)s
          AND EXISTS (SELECT FROM verifications WHERE aggregate_type = old.aggregate_type AND id > old.id)
        ORDER BY ended_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ))
"""

PURGE_REPLAYS: Final = """
    DELETE FROM replays WHERE id = ANY(ARRAY(
        SELECT id FROM replays AS old
        WHERE ended_at <= clock_timestamp() - %(kept)s
          AND EXISTS (
              SELECT FROM replays
              WHERE aggregate_type = old.aggregate_type AND id > old.id AND (state = 'done' OR old.state <> 'done')
          )
        ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ))
"""

PURGES: Final[Mapping[str, tuple[str, timedelta]]] = {
    "idempotency_keys": (PURGE_KEYS, retention.IDEMPOTENCY_KEYS),
    "verifications": (PURGE_VERIFICATIONS, retention.VERIFICATIONS),
    "replays": (PURGE_REPLAYS, retention.REPLAYS),
}

Purged = Mapping[str, int]


class Housekeeping:
    """Purges what has expired in PostgreSQL, and old tombstones. `run_once` deletes a batch of each."""

    def __init__(self, settings: ProjectorSettings, name: str, tombstones: TombstonePurge) -> None:
        self._settings = settings
        self._name = f"{name} housekeeping"
        self._tombstones = tombstones

    def run(
        self,
        stop: threading.Event,
        on_purge: Callable[[Purged], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        """Purge every few minutes until `stop` is set. A fault is reported, and the next round tries again."""

        def step() -> bool:
            purged: dict[str, int] = {}
            for purge in (self.purge_postgres, self.purge_tombstones):
                with reporting(on_fault):
                    purged |= purge()
            on_purge(purged)
            return any(purged.get(name, 0) >= BATCH for name in PURGES)

        in_rounds(stop, EVERY_SECONDS, step)

    def purge_postgres(self) -> Purged:
        """Delete up to a batch of expired rows of each table, on a connection of its own; return how many."""
        with connect(
            self._settings, self._name, autocommit=True, statement_timeout=STATEMENT_TIMEOUT_MILLISECONDS
        ) as connection:
            return {name: _delete(connection, *purge) for name, purge in PURGES.items()}

    def purge_tombstones(self) -> Purged:
        """Delete up to a batch of old tombstones of each read model; return how many."""
        return {"tombstones": self._tombstones.run_once()}


def _delete(connection: psycopg.Connection, statement: str, kept: timedelta) -> int:
    parameters: dict[str, Any] = {"kept": kept, "limit": BATCH}
    return connection.execute(statement, parameters).rowcount
