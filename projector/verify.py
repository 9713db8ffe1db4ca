"""Verify: do the read models show what the write model holds?

Both sides are walked in id order, page by page, in bounded memory. A difference is looked at again: the row, then its
messages, then the document, then the row once more. It counts when no message was on its way and the row stayed the
same: then all that the row's history sent was settled, and so in MongoDB, before the document was looked at. Anything
else is in flight, however busy both sides are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, islice
from random import Random, SystemRandom
from typing import Final

import psycopg
from pymongo.collection import Collection

from projector import backlog
from projector.drift import Drift, Shown, drift_of, kind_of
from projector.projections.registry import Projection
from projector.sides import BEFORE_ALL, Sides
from shared.mongo import Document

# A sample is made of windows: neighbours by id, from a random id on.
WINDOW: Final = 20
# An aggregate that changes between every two looks is in flight, however often one looks.
LOOKS: Final = 3


def compare(
    connection: psycopg.Connection,
    collection: Collection[Document],
    projection: Projection,
    *,
    deep: bool = False,
    on_page: Callable[[int], None] = lambda _: None,
) -> Iterator[Drift]:
    """Yield every difference between the rows and `collection`: ids and versions, if `deep` the contents as well.

    `connection` is in autocommit mode: every look sees what is committed by then. `on_page` is told how many aggregates
    each page compared.
    """
    sides = Sides(connection, collection, projection, deep)
    after: int | None = BEFORE_ALL
    while after is not None:
        compared, suspects, after = _compare_page(sides, after, sides.page)
        yield from _confirm(sides, suspects)
        on_page(len(compared))


def sample(  # noqa: PLR0913 - as compare, and the size
    connection: psycopg.Connection,
    collection: Collection[Document],
    projection: Projection,
    size: int,
    *,
    deep: bool = False,
    on_page: Callable[[int], None] = lambda _: None,
    random: Random | None = None,
) -> Iterator[Drift]:
    """Yield the differences among about `size` aggregates, in windows that begin at random ids of either side.

    Costs the same however many there are. `on_page` is told how many each window compared for the first time.
    """
    sides = Sides(connection, collection, projection, deep)
    ranges = sides.id_ranges()
    if not ranges or max(last for _, last in ranges) - min(first for first, _ in ranges) < size:
        yield from compare(connection, collection, projection, deep=deep, on_page=on_page)
        return
    chosen = random or SystemRandom()
    seen: set[int] = set()
    for first, last in islice(cycle(ranges), -(-size // WINDOW)):
        compared, suspects, _ = _compare_page(sides, chosen.randint(first, last) - 1, min(WINDOW, size))
        yield from _confirm(sides, [suspect for suspect in suspects if suspect not in seen])
        on_page(len(compared - seen))
        seen |= compared


def _compare_page(sides: Sides, after: int, limit: int) -> tuple[set[int], list[int], int | None]:
    """Return which ids were compared, which of them differ, and the end of the page, None when it is the last."""
    expected, stored = sides.rows_after(after, limit), sides.documents_after(after, limit)
    # Both pages end at the lower of their ends; a page that is not full has no end.
    ends = [max(page) for page in (expected, stored) if len(page) == limit]
    end = min(ends) if ends else None
    compared = {i for i in expected.keys() | stored.keys() if end is None or i <= end}
    suspects = [i for i in sorted(compared) if kind_of(expected.get(i), stored.get(i))]
    return compared, suspects, end


def _confirm(sides: Sides, suspects: Sequence[int]) -> Iterator[Drift]:
    """Yield the differences of those that are not in flight."""
    for _ in range(LOOKS):
        if not suspects:
            return
        before = sides.rows_of(suspects)
        # After the row: what it had sent by then is either found here, or settled before the document is looked at.
        in_flight = sides.in_flight(sides.aggregate_type, suspects)
        owners_in_flight = sides.in_flight("user", _owners(before.values()))
        stored = sides.documents_of(suspects)
        after = sides.rows_of(suspects)
        found: list[Drift] = []
        undecided: list[int] = []
        for aggregate_id in suspects:
            row = before.get(aggregate_id)
            drift = drift_of(sides.aggregate_type, aggregate_id, row, stored.get(aggregate_id))
            # The owner's messages explain a difference in nothing but the owner.
            is_owners = (
                row is not None and drift and drift.fields == ("owner",) and row["owner"]["id"] in owners_in_flight
            )
            if aggregate_id in in_flight or is_owners or row != after.get(aggregate_id):
                undecided.append(aggregate_id)
            elif drift:
                found.append(drift)
        yield from _with_reasons(sides, found, before)
        suspects = undecided


def _owners(shown: Iterable[Shown]) -> list[int]:
    return sorted({row["owner"]["id"] for row in shown if "owner" in row})


def _with_reasons(sides: Sides, found: Sequence[Drift], row_of: Mapping[int, Shown]) -> Iterator[Drift]:
    """Yield the differences, each with the message whose failure explains it, if there is one."""
    if not found:
        return
    own = backlog.failed_for_good(sides.connection, sides.aggregate_type, [drift.aggregate_id for drift in found])
    owner_of = {
        drift.aggregate_id: row_of[drift.aggregate_id]["owner"]["id"] for drift in found if "owner" in drift.fields
    }
    owners = backlog.failed_for_good(sides.connection, "user", sorted(set(owner_of.values()))) if owner_of else {}
    for drift in found:
        reason = own.get(drift.aggregate_id) or owners.get(owner_of.get(drift.aggregate_id, BEFORE_ALL))
        yield replace(drift, dead_letter=reason) if reason else drift
