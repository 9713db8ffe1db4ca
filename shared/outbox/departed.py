"""Aggregates that have messages but no row: deleted, while older messages of theirs may still be on their way.

Whoever empties a read model must leave a tombstone for each, or a late upsert brings a deleted document back.
"""

from collections.abc import Iterator
from typing import Final

import psycopg

from shared.read_models import ReadModel

# The highest version among the messages is enough: none of them is newer.
DEPARTED: Final = """
    SELECT aggregate_id, max(aggregate_version)
    FROM (
        SELECT aggregate_id, aggregate_version FROM outbox WHERE aggregate_type = %(type)s
        UNION ALL
        SELECT aggregate_id, aggregate_version FROM outbox_failures WHERE aggregate_type = %(type)s
    ) AS message
    WHERE NOT EXISTS (SELECT FROM {table} WHERE {table}.id = message.aggregate_id)
    GROUP BY aggregate_id
"""


def departed(connection: psycopg.Connection, read_model: ReadModel) -> Iterator[tuple[int, int]]:
    """Yield id and version of every aggregate of this read model that has messages but no row."""
    statement = DEPARTED.format(table=read_model.table)
    yield from connection.execute(statement, {"type": read_model.aggregate_type})
