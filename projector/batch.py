"""A batch: one transaction of a lane. It begins with its first claim and ends as it is settled: two round trips."""

from collections.abc import Mapping
from contextlib import suppress
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Self, cast
from uuid import UUID

import psycopg
from psycopg.rows import args_row, dict_row

from projector import failures, outbox, owners, replays
from projector.outbox import Recorded, Settlement
from projector.prepared import BEGIN, COMMIT, NO_ESCAPES, Prepared, together
from projector.replays import Shadow
from projector.shapes import known_shapes
from shared.installation import InstallationChangedError
from shared.mongo_time import MongoTime
from shared.outbox.message import OutboxMessage

# A settlement that PostgreSQL loses when it crashes puts its messages back, and they are delivered again; what MongoDB
# acknowledged stays. So nobody has to wait until it is on the disk.
# Every statement of a lane finds its rows by an index, in the index's order. So one plan is right however many rows
# there are, and is made once: made for each batch, plans took a quarter of the time that a single message spends here.
# Without the other three, a plan kept from the time when the outbox was empty would read all of it for each batch.
SESSION: Final = (
    "SET synchronous_commit = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_seqscan = off",
    "SET enable_bitmapscan = off",
    "SET enable_hashjoin = off",
    NO_ESCAPES,
)

PREPARED: Final = (
    replays.HELD,
    outbox.CLAIM,
    outbox.CLAIM_AWAITED,
    outbox.CLAIM_ONE,
    failures.CLAIM_DUE,
    failures.CLAIM_ONE_FAILED,
    owners.UNMOVED,
    outbox.SETTLE,
)


def prepare_to_relay(connection: psycopg.Connection) -> None:
    """Make this session a lane's: its commits return before they are on the disk, and its statements are prepared."""
    # Nothing is prepared by the driver: after a rollback it would have the session forget all that is.
    connection.prepare_threshold = None
    together(connection, *SESSION, "DEALLOCATE ALL", *(statement.preparation() for statement in PREPARED))


class Batch:
    """One transaction. What is not settled in its context is where it was."""

    def __init__(self, connection: psycopg.Connection, installation: UUID) -> None:
        """`connection` is a lane's, in autocommit mode; the read models are those of the incarnation `installation`."""
        self._connection = connection
        self._installation = installation
        self._held: replays.Held | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A connection that broke has rolled back; one that settled has nothing to.
        with suppress(psycopg.Error):
            self._connection.rollback()

    @property
    def shadow(self) -> Shadow | None:
        """What is to be written beside the live collection."""
        return self._held.shadow if self._held else None

    def claim(self, statement: Prepared, **parameters: int) -> list[OutboxMessage]:
        """Claim messages and return them in id order. The first claim takes hold of the read models.

        Raises InstallationChangedError, and what replays.hold_read_models raises.
        """
        claim = statement.call(parameters)
        cursor = together(self._connection, claim) if self._held else self._begun_with(claim)
        cursor.row_factory = args_row(OutboxMessage)
        # DELETE returns in any order; the ids decide.
        return sorted(cursor.fetchall(), key=attrgetter("id"))

    def settle(
        self,
        settlement: Settlement,
        lane: str,
        time: MongoTime | None,
        seconds: float | None = None,
        *,
        embedded: Mapping[int, int] | None = None,
    ) -> Recorded:
        """Record what became of each message, tell those who wait, and commit.

        `time` is MongoDB's after the batch's last operation, `seconds` what the batch took so far. Raises
        OwnersMovedOnError, and has done nothing, when one of the owners `embedded`, id -> version, has a newer version.
        """
        look = [owners.MARK_STORED, owners.unmoved(embedded)] if embedded else []
        with owners.moved_on(self._connection):
            if settlement.has_exceptions:
                # What becomes of them takes statements of its own, and the look comes first.
                if look:
                    together(self._connection, *look)
                outbox.record_exceptions(self._connection, settlement)
                look = []
            settle = outbox.SETTLE.call(outbox.settling(settlement.settled, lane, time, seconds))
            cursor = together(self._connection, *look, settle, COMMIT)
        cursor.set_result(len(look))
        cursor.row_factory = args_row(Recorded.of_row)
        return cast("Recorded", cursor.fetchone())

    def _begun_with(self, claim: str) -> psycopg.Cursor[Any]:
        """Begin, hold the read models and claim; return the cursor at what was claimed."""
        held = replays.HELD.call(known_shapes())
        with replays.expecting_tables():
            cursor = together(self._connection, BEGIN, replays.LOCK_READ_MODELS, held, claim)
        cursor.set_result(2)
        cursor.row_factory = dict_row
        self._held = replays.held(cursor.fetchone())
        if self._held.incarnation != self._installation:
            raise InstallationChangedError
        return cursor.set_result(3)
