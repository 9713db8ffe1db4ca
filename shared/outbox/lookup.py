"""Looking up what became of messages: one statement sees both outbox tables in one snapshot."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.history import HANDSHAKE, HISTORY, INCARNATION

# A message in neither table is settled. Parameters: ids, a list of message ids. Rows: (id, state).
UNSETTLED: Final = """
    SELECT id, 'pending' AS state FROM outbox WHERE id = ANY(%(ids)s)
    UNION ALL
    SELECT id, state FROM outbox_failures WHERE id = ANY(%(ids)s)
"""

# The same in one row, with the history in which it is true, and as of when the absence of a message is to be proven.
UNSETTLED_NOW: Final = f"""
    SELECT {HISTORY} AS history, {INCARNATION} AS incarnation, {HANDSHAKE} AS handshake,
           (SELECT coalesce(jsonb_object_agg(id, state), '{{}}') FROM ({UNSETTLED}) AS unsettled) AS states
    FROM installation
"""

# What a consistency token asks: the message's state, and MongoDB's time after the last settled batches. A message that
# is settled in this snapshot was settled by one of them, so a read at that time or later sees it.
LOOK_UP: Final = f"""
    SELECT
        {HISTORY} AS history,
        {INCARNATION} AS incarnation,
        {HANDSHAKE} AS handshake,
        coalesce(
            (SELECT 'pending' FROM outbox WHERE id = %(id)s),
            (SELECT state FROM outbox_failures WHERE id = %(id)s),
            'settled'
        ) AS state,
        latest.operation_time,
        latest.cluster_time
    FROM installation
    LEFT JOIN LATERAL (
        SELECT operation_time, cluster_time FROM projectors
        WHERE operation_time IS NOT NULL ORDER BY operation_time DESC LIMIT 1
    ) AS latest ON true
"""

# Whether PostgreSQL answers, and is migrated.
HAS_TABLES: Final = "SELECT FROM outbox WHERE id = 0"

# The message with the lowest id is, but for late commits, the oldest; finding it costs one index look-up, and a walk
# over the dead rows of settled messages while a long transaction keeps them: to be asked by a bounded look.
OLDEST_AGE: Final = """
    SELECT coalesce((
        SELECT greatest(extract(epoch FROM clock_timestamp() - created_at), 0) FROM outbox ORDER BY id LIMIT 1
    ), 0)::float8
"""

# From now on a reader waits for this message: it overtakes, and its settling is announced. One that is claimed just
# now is left alone; the slow check finds it settled.
MAKE_AWAITED: Final = """
    UPDATE outbox SET awaited = true
    WHERE id = (SELECT id FROM outbox WHERE id = %(id)s AND NOT awaited FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class AsOf:
    """The state of the write model in which something was looked up: what it says of MongoDB is to be proven."""

    incarnation: UUID
    handshake: int
