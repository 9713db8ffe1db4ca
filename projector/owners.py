"""The look at the owners of items just stored, as a condition of their settlement: it costs no round trip of its own.

An owner that is in the write model as an item embeds it needs no correction: whoever renames it afterwards is relayed
afterwards, and finds the item. So the read model is looked at only once an owner has moved on in the write model, see
projector/projections/references.py. In what is sent as one query, an error is all that stops what comes behind it.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg

from projector.prepared import Prepared
from shared.postgres import plain_array
from shared.read_models import OwnerDocument

MARK_STORED: Final = "SAVEPOINT stored"
BACK_TO_STORED: Final = "ROLLBACK TO SAVEPOINT stored"

# Fails with their ids when an owner has a newer version: no number is spelled like that. Nothing is NULL, and a number.
UNMOVED: Final = Prepared(
    "unmoved",
    """
    SELECT ('owners moved on: ' || string_agg(embedded.id::text, ', '))::int
    FROM unnest(%(ids)s::bigint[], %(versions)s::bigint[]) AS embedded (id, version)
    WHERE (SELECT users.version FROM users WHERE users.id = embedded.id) > embedded.version
    """,
)


class OwnersMovedOnError(RuntimeError):
    """Nothing was settled: of an owner that was just stored with an item there is a newer version."""


def lowest_versions(owners: Iterable[OwnerDocument]) -> Mapping[int, int]:
    """Return of each owner the oldest version that is embedded, by id."""
    lowest: dict[int, int] = {}
    for owner in owners:
        user_id, version = owner["id"], owner["version"]
        if version < lowest.get(user_id, version + 1):
            lowest[user_id] = version
    return lowest


def unmoved(embedded: Mapping[int, int]) -> str:
    """Return the command that fails when one of these owners, id -> version, has a newer version."""
    return UNMOVED.call({"ids": plain_array(embedded), "versions": plain_array(embedded.values())})


@contextmanager
def moved_on(connection: psycopg.Connection) -> Iterator[None]:
    """Raise OwnersMovedOnError where UNMOVED fails, and let the transaction be as it was at MARK_STORED."""
    try:
        yield
    except psycopg.errors.InvalidTextRepresentation as error:
        connection.execute(BACK_TO_STORED)
        raise OwnersMovedOnError from error
