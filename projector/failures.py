"""Messages that failed: how often they are tried again, and the SQL that the relay needs on `outbox_failures`.

A message that itself fails leaves the outbox for `outbox_failures`, out of its neighbours' way. It comes again after
pauses that double, and is a dead letter after so many attempts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from projector.prepared import Prepared
from shared.outbox.message import ARRAYS, COLUMNS, OutboxMessage, as_arrays

# Of an error text an operator needs the beginning; some servers append whole documents.
ERROR_LENGTH: Final = 1_000

MAX_PAUSE_SECONDS: Final = 300.0

# Somebody may wait for the message still; it does nothing in steps here.
COLUMNS_HERE: Final = COLUMNS.replace("awaited, cursor", "true AS awaited, NULL::bigint AS cursor")

# The row stays, locked, until it is known what became of the message: whoever settles a newer version meanwhile waits
# for that, and removes the row.
CLAIM_DUE: Final = Prepared(
    "claim_due",
    f"""
    SELECT {COLUMNS_HERE} FROM outbox_failures
    WHERE state = 'retrying' AND next_attempt_at <= clock_timestamp()
    ORDER BY next_attempt_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    """,
)

# Due or not.
CLAIM_ONE_FAILED: Final = Prepared(
    "claim_one_failed",
    f"""
    SELECT {COLUMNS_HERE} FROM outbox_failures WHERE id = %(id)s AND state = 'retrying' FOR UPDATE SKIP LOCKED
    """,
)

# A `pause` of null makes it a dead letter.
FAIL: Final = f"""
    INSERT INTO outbox_failures (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload,
                                 trace_context, created_at, attempts, error, state, next_attempt_at)
    SELECT id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, trace_context, created_at,
           attempts, error, CASE WHEN pause IS NULL THEN 'dead' ELSE 'retrying' END,
           clock_timestamp() + make_interval(secs => pause)
    FROM unnest({ARRAYS}, %(error)s::text[], %(pause)s::float8[]) AS message ({COLUMNS}, error, pause)
    ON CONFLICT (id) DO UPDATE SET attempts = excluded.attempts, error = excluded.error, state = excluded.state,
        failed_at = clock_timestamp(), next_attempt_at = excluded.next_attempt_at
"""

# An effect that is not finished goes on from the outbox, whichever table its message was claimed from.
GO_ON: Final = "DELETE FROM outbox_failures WHERE id = ANY(%(ids)s)"


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed attempt comes to: why, the how manieth it was, and the seconds until the next; None for no more."""

    error: str
    attempts: int
    pause: float | None

    @property
    def is_dead(self) -> bool:
        """Whether it is a dead letter now."""
        return self.pause is None


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a message is tried, and the seconds after its first failure; each pause is twice the one before."""

    max_attempts: int
    first_pause: float

    def failure(self, message: OutboxMessage, error: str) -> Failure:
        """Return what one more failed attempt comes to."""
        attempts = message.attempts + 1
        pause = (
            None if attempts >= self.max_attempts else min(self.first_pause * 2 ** (attempts - 1), MAX_PAUSE_SECONDS)
        )
        return Failure(error[:ERROR_LENGTH], attempts, pause)


def record(connection: psycopg.Connection, failed: Mapping[OutboxMessage, Failure]) -> None:
    """Keep the messages that failed, out of the relay's way."""
    rows = (
        message.as_columns() | {"attempts": failure.attempts, "error": failure.error, "pause": failure.pause}
        for message, failure in failed.items()
    )
    connection.execute(FAIL, as_arrays(rows))


def go_on(connection: psycopg.Connection, ids: list[int]) -> None:
    """Let these be in the outbox alone."""
    connection.execute(GO_ON, {"ids": ids})
