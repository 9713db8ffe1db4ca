"""Dead letters: messages that failed for good and wait for an operator, who retries or discards them.

A retried message is one of the outbox again, under its own id; a discarded one stays until a newer version of its
aggregate settles, so that whoever asks for it is told. Both are one statement: of two operators one acts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import psycopg
from psycopg.rows import class_row, dict_row, scalar_row

from shared.postgres import WAKE_CHANNEL

# Errors that differ in numbers alone (ids, versions, sizes) have one cause.
GROUP: Final = "left(md5(regexp_replace(left(error, 300), '[0-9]+', '#', 'g')), 12)"

GROUPS: Final = f"""
    SELECT {GROUP} AS "group", (array_agg(error ORDER BY id DESC))[1] AS error, count(*) AS number, min(id) AS first_id,
        array_agg(DISTINCT aggregate_type) AS aggregate_types,
        extract(epoch FROM clock_timestamp() - min(failed_at))::float8 AS oldest_seconds,
        extract(epoch FROM clock_timestamp() - max(failed_at))::float8 AS newest_seconds
    FROM outbox_failures WHERE state = 'dead'
    GROUP BY 1 ORDER BY number DESC, first_id LIMIT %(limit)s
"""

FIND: Final = """
    SELECT id, aggregate_type, aggregate_id, aggregate_version, event_type, attempts, error,
        extract(epoch FROM clock_timestamp() - failed_at)::float8 AS failed_seconds
    FROM outbox_failures WHERE state = 'dead' AND {selected} AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""

GET: Final = """
    SELECT id, aggregate_type, aggregate_id, aggregate_version, event_type, attempts, error, state, payload,
        trace_context ->> 'request_id' AS request_id,
        extract(epoch FROM clock_timestamp() - created_at)::float8 AS created_seconds,
        extract(epoch FROM clock_timestamp() - failed_at)::float8 AS failed_seconds
    FROM outbox_failures WHERE id = %(id)s
"""

# Its attempts begin anew, and whoever waits for it is told.
RETRY: Final = """
    WITH chosen AS (
        DELETE FROM outbox_failures WHERE state = 'dead' AND {selected}
        RETURNING id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, trace_context, created_at
    )
    INSERT INTO outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, trace_context,
                        created_at, awaited)
    SELECT *, true FROM chosen RETURNING id
"""

DISCARD: Final = "UPDATE outbox_failures SET state = 'discarded' WHERE state = 'dead' AND {selected} RETURNING id"

NOTIFY: Final = "SELECT pg_notify(%(channel)s, %(lowest)s)"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: a condition on `outbox_failures`, and its parameters."""

    condition: str
    parameters: Mapping[str, Any]

    @classmethod
    def of_ids(cls, ids: Sequence[int]) -> Self:
        """Return those with these ids."""
        return cls("id = ANY(%(ids)s)", {"ids": list(ids)})

    @classmethod
    def of_aggregate(cls, aggregate_type: str, aggregate_id: int) -> Self:
        """Return those of one aggregate."""
        condition = "aggregate_type = %(aggregate_type)s AND aggregate_id = %(aggregate_id)s"
        return cls(condition, {"aggregate_type": aggregate_type, "aggregate_id": aggregate_id})

    @classmethod
    def of_group(cls, group: str) -> Self:
        """Return those that failed in the same way."""
        return cls(f"{GROUP} = %(group)s", {"group": group})

    @classmethod
    def of_all(cls) -> Self:
        """Return every one."""
        return cls("true", {})


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter without its payload."""

    id: int
    aggregate_type: str
    aggregate_id: int
    aggregate_version: int
    event_type: str
    attempts: int
    error: str
    failed_seconds: float


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters that failed in the same way, with the error of the newest of them."""

    group: str
    error: str
    number: int
    first_id: int
    aggregate_types: Sequence[str]
    oldest_seconds: float
    newest_seconds: float


def groups(connection: psycopg.Connection, limit: int = 100) -> list[Group]:
    """Return the dead letters by error, the largest group first."""
    return connection.cursor(row_factory=class_row(Group)).execute(GROUPS.encode(), {"limit": limit}).fetchall()


def find(connection: psycopg.Connection, selection: Selection, *, after: int = 0, limit: int = 50) -> list[DeadLetter]:
    """Return those selected with an id above `after`, in id order."""
    return (
        connection.cursor(row_factory=class_row(DeadLetter))
        .execute(_selecting(FIND, selection), {**selection.parameters, "after": after, "limit": limit})
        .fetchall()
    )


def get(connection: psycopg.Connection, message_id: int) -> dict[str, Any] | None:
    """Return one failed message in full, payload included, None when it is none any more."""
    return connection.cursor(row_factory=dict_row).execute(GET, {"id": message_id}).fetchone()


def retry(connection: psycopg.Connection, selection: Selection) -> list[int]:
    """Put those selected back into the outbox, wake the relay, and return their ids. In autocommit mode."""
    with connection.transaction():
        ids = _act(connection, RETRY, selection)
        if ids:
            # Notifications are sent with the commit.
            connection.execute(NOTIFY, {"channel": WAKE_CHANNEL, "lowest": str(min(ids))})
    return ids


def discard(connection: psycopg.Connection, selection: Selection) -> list[int]:
    """Give those selected up and return their ids."""
    return _act(connection, DISCARD, selection)


def _act(connection: psycopg.Connection, statement: str, selection: Selection) -> list[int]:
    cursor = connection.cursor(row_factory=scalar_row)
    return sorted(cursor.execute(_selecting(statement, selection), selection.parameters))


def _selecting(statement: str, selection: Selection) -> bytes:
    return statement.format(selected=selection.condition).encode()
