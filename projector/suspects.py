"""Messages that may have ended a process: a projector that starts after an unclean end takes them one by one.

A lane that is gone without having said so was ended from outside, or by a message. What it had claimed was among the
lowest ids there were. Of these each is now tried alone, and its attempt is recorded first, in a transaction of its
own. So a message that ends the process again and again is told from its neighbours; in normal running this costs
nothing.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.rows import scalar_row

# PostgreSQL cuts application_name at this length.
NAME_LENGTH: Final = 63

# So many attempts may end the process; after that the message is not tried any more.
LIVES: Final = 3

ERROR: Final = "ended the projector's process {attempts} times"

# Whoever updates these rows takes the lanes over: of several projectors that start at once each lane finds one. Without
# a session of its projector a lane is gone. This projector's own name is that of the one before it in its container.
TAKE_OVER: Final = """
    UPDATE projectors SET ended_at = clock_timestamp()
    WHERE ended_at IS NULL
      AND (name = ANY(%(own)s) OR NOT EXISTS (
          SELECT FROM pg_stat_activity
          WHERE application_name = left(regexp_replace(projectors.name, ' lane [0-9]+$', ''), %(length)s)
      ))
"""

ANNOUNCE: Final = """
    INSERT INTO projectors (name) SELECT unnest(%(own)s::text[])
    ON CONFLICT (name) DO UPDATE SET heartbeat = clock_timestamp(), ended_at = NULL
"""

# Lanes claim the lowest ids, of all messages or of those that clients wait for, and what is due again.
LOWEST: Final = """
    (SELECT id FROM outbox ORDER BY id LIMIT %(limit)s)
    UNION
    (SELECT id FROM outbox WHERE awaited ORDER BY id LIMIT %(limit)s)
    UNION
    (SELECT id FROM outbox_failures WHERE state = 'retrying' AND next_attempt_at <= clock_timestamp())
    ORDER BY id
"""

AT_WORK: Final = "SELECT count(*) FROM projectors WHERE ended_at IS NULL"

# What another lane has claimed meanwhile is passed over.
RECORD: Final = """
    WITH waiting AS (
        UPDATE outbox SET attempts = attempts + %(change)s
        WHERE id = (SELECT id FROM outbox WHERE id = %(id)s FOR UPDATE SKIP LOCKED) RETURNING attempts
    ), failed AS (
        UPDATE outbox_failures SET attempts = greatest(attempts + %(change)s, 1)
        WHERE id = (
            SELECT id FROM outbox_failures WHERE id = %(id)s AND state = 'retrying' FOR UPDATE SKIP LOCKED
        ) RETURNING attempts
    )
    SELECT attempts FROM waiting UNION ALL SELECT attempts FROM failed
"""


class Suspects:
    """The messages that the lanes of one projector take one by one before they take any others."""

    def __init__(self, lanes: Sequence[str], batch_size: int) -> None:
        self._lanes = list(lanes)
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._ids: deque[int] | None = None
        self._in_hand: int | None = None
        self._counted_in_vain: set[int] = set()

    def are_left(self, connection: psycopg.Connection) -> bool:
        """Return whether a message is still to be tried alone, or just is. The first who asks looks for them."""
        with self._lock:
            if self._ids is None:
                self._ids = deque(self._find(connection))
            return bool(self._ids or self._in_hand)

    @contextmanager
    def one(self) -> Iterator[int | None]:
        """Take the next message in hand; None while another lane has one. After a fault it comes again.

        Were two in hand when the process dies, nobody could tell which of them ended it.
        """
        with self._lock:
            message_id = self._ids.popleft() if self._ids and not self._in_hand else None
            self._in_hand = message_id or self._in_hand
        if message_id is None:
            yield None
            return
        try:
            yield message_id
        except BaseException:
            self._put_back(message_id)
            raise
        finally:
            with self._lock:
                self._in_hand = None

    def record_attempt(self, connection: psycopg.Connection, message_id: int) -> int | None:
        """Count an attempt before it is made, for good; return the how manieth it is, None when the message is gone.

        Attempts that a transient fault ended do not count: they are taken back here.
        """
        with connection.transaction():
            cursor = connection.cursor(row_factory=scalar_row)
            for counted in self._counted_in_vain & {message_id}:
                cursor.execute(RECORD, {"id": counted, "change": -1})
            attempts: int | None = cursor.execute(RECORD, {"id": message_id, "change": 1}).fetchone()
        self._counted_in_vain.discard(message_id)
        return attempts

    def _put_back(self, message_id: int) -> None:
        with self._lock:
            self._counted_in_vain.add(message_id)
            if self._ids is not None:
                self._ids.appendleft(message_id)

    def _find(self, connection: psycopg.Connection) -> list[int]:
        with connection.transaction():
            cursor = connection.cursor(row_factory=scalar_row)
            gone = cursor.execute(TAKE_OVER, {"own": self._lanes, "length": NAME_LENGTH}).rowcount
            cursor.execute(ANNOUNCE, {"own": self._lanes})
            if not gone:
                return []
            lanes = gone + (cursor.execute(AT_WORK).fetchone() or 0)
            return cursor.execute(LOWEST, {"limit": lanes * self._batch_size}).fetchall()
