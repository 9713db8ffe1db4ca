"""The relay: the loop that carries messages from the outbox to the read models.

A batch is one PostgreSQL transaction: hold the read models, claim, write to MongoDB, settle, commit. If anything
fails or the process dies, the transaction rolls back and every message is where it was. There are no leases.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

import psycopg
from bson import ObjectId

from projector import lanes, outbox
from projector.batch import Batch, prepare_to_relay
from projector.bell import Bell
from projector.claims import Claims, the_one
from projector.deadline import Deadline
from projector.delivery import Delivered, Delivery
from projector.failures import Failure, Patience
from projector.outcomes import settlement_of
from projector.owners import OwnersMovedOnError, lowest_versions
from projector.phases import Phase, Phases
from projector.position import ClaimPosition
from projector.retry import retrying
from projector.settings import ProjectorSettings
from projector.suspects import ERROR, LIVES, Suspects
from shared.installation import InstallationChangedError, read_installation
from shared.outbox.message import OutboxMessage

# An idle lane says this often that it is alive, and looks whose the read models are.
HEARTBEAT_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """What one step did. `seconds` is the whole transaction; `more` says that another step has work at once.

    `failed` messages come again, `dead` ones do not. `visible_seconds` is, of each settled message, the time from its
    command to here, by PostgreSQL's clock.
    """

    claimed: int = 0
    applied: int = 0
    stale: int = 0
    settled: int = 0
    failed: int = 0
    dead: int = 0
    unfinished: int = 0
    superseded: int = 0
    seconds: float = 0.0
    more: bool = False
    phases: Mapping[Phase, float] = field(default_factory=dict)
    visible_seconds: Sequence[float] = ()


class Relay:
    """One lane. Lanes share nothing but the positions, which are hints: the gate makes them right, not each other."""

    def __init__(  # noqa: PLR0913 - what a lane works with, once; nothing is left to choose afterwards
        self,
        settings: ProjectorSettings,
        open_connection: Callable[[], tuple[psycopg.Connection, UUID]],
        delivery: Delivery,
        position: ClaimPosition,
        *,
        name: str = "lane",
        awaited_only: bool = False,
        suspects: Suspects | None = None,
        before_writing: Callable[[], None] = lambda: None,
        before_settling: Callable[[], None] = lambda: None,
        on_settled: Callable[[outbox.Settlement, float], None] | None = None,
    ) -> None:
        """`open_connection` returns a connection fit for claiming and the incarnation the read models belong to.

        `name` is this lane's own in `projectors`. One that is `awaited_only` serves waiting clients and nobody else, so
        that none of them stands behind a bulk import. `suspects` are tried one by one before all others.
        `before_writing` may raise, and then nothing is written; `before_settling`, and then nothing is settled.
        `on_settled` is told of each batch after its commit, with the seconds it took.
        """
        self._name = name
        self._before_writing = before_writing
        self._before_settling = before_settling
        self._on_settled = on_settled
        self._settings = settings
        self._open_connection = open_connection
        self._delivery = delivery
        self._claims = Claims(position, limit=settings.batch_size, awaited_only=awaited_only)
        self._patience = Patience(settings.max_attempts, settings.retry_pause_seconds)
        self._suspects = suspects
        self._claimed: list[OutboxMessage] = []
        self._next_beat = 0.0
        self._connection: psycopg.Connection | None = None
        self._installation: UUID | None = None
        self._mongod: ObjectId | None = None
        self._in_doubt = threading.Event()

    def run(
        self,
        stop: threading.Event,
        bell: Bell,
        on_batch: Callable[[BatchCounts], None],
        on_fault: Callable[[BaseException, float], None],
    ) -> None:
        """Relay until `stop` is set, then finish the batch in hand. `bell` ends an idle wait early."""
        while not stop.is_set():
            bell.hush()
            counts = BatchCounts()
            for attempt in retrying(stop, on_retry=on_fault):
                with attempt:
                    counts = self.run_once()
                    on_batch(counts)
            if counts.more:
                # There is work for two.
                bell.ring()
            else:
                bell.wait(self._settings.poll_interval_seconds)
        self._end()
        self.close()

    def run_once(self) -> BatchCounts:
        """Take one batch from claim to commit and return what it came to. Any error leaves every message in place."""
        self._claimed = []
        try:
            connection, installation = self._connected()
            if self._suspects and self._suspects.are_left(connection):
                return self._try_suspect(self._suspects, connection, installation)
            counts = self._batch(connection, installation, self._claims.next)
            if not counts.claimed:
                self._beat_when_due(connection)
        except BaseException:
            self.close()
            # Not before the rollback: until then the messages are locked, and other lanes pass over them.
            self._claims.take_back(self._claimed)
            raise
        return counts

    def close(self) -> None:
        """Give the connection up; a transaction that is open rolls back. The next step opens and checks anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def look_anew(self) -> None:
        """Look again whose the read models are, before the next batch. May be called on any thread."""
        self._in_doubt.set()

    def _try_suspect(self, suspects: Suspects, connection: psycopg.Connection, installation: UUID) -> BatchCounts:
        with suspects.one() as suspect:
            if suspect is None:
                return BatchCounts()
            attempts = suspects.record_attempt(connection, suspect)
            if attempts and attempts > LIVES:
                return self._bury(connection, installation, suspect)
            counts = self._batch(connection, installation, lambda batch: the_one(batch, suspect))
            return replace(counts, more=True)

    def _bury(self, connection: psycopg.Connection, installation: UUID, suspect: int) -> BatchCounts:
        with Batch(connection, installation) as batch:
            found = the_one(batch, suspect)
            dead = {message: Failure(ERROR.format(attempts=LIVES), message.attempts, None) for message in found}
            batch.settle(outbox.Settlement([], dead, {}), self._name, None)
        return BatchCounts(claimed=len(dead), dead=len(dead), more=True)

    def _batch(
        self,
        connection: psycopg.Connection,
        installation: UUID,
        claim: Callable[[Batch], list[OutboxMessage]],
    ) -> BatchCounts:
        begun, phases = time.monotonic(), Phases()
        deadline = Deadline.after(self._settings.batch_deadline_seconds)
        with Batch(connection, installation) as batch:
            messages = self._claimed = claim(batch)
            if not messages:
                return BatchCounts(seconds=time.monotonic() - begun)
            self._before_writing()
            phases.ended("claim")
            delivered = self._delivery.deliver(messages, deadline, batch.shadow)
            phases.include(delivered.seconds)
            try:
                settlement, recorded = self._settle(batch, messages, delivered, deadline, begun)
            except OwnersMovedOnError:
                delivered = self._delivery.look_at_owners(delivered, deadline, batch.shadow)
                phases.ended("references")
                settlement, recorded = self._settle(batch, messages, delivered, deadline, begun)
        phases.ended("settle")
        self._claims.take_back(settlement.unfinished)
        seconds = time.monotonic() - begun
        if self._on_settled:
            self._on_settled(settlement, seconds)
        return BatchCounts(
            claimed=len(messages),
            applied=delivered.applied,
            stale=delivered.stale,
            settled=len(settlement.settled),
            failed=len(settlement.failed) - len(settlement.dead),
            dead=len(settlement.dead),
            unfinished=len(settlement.unfinished),
            superseded=recorded.superseded,
            seconds=seconds,
            more=bool(settlement.unfinished) or len(messages) >= self._settings.batch_size,
            phases=phases.seconds,
            visible_seconds=[(recorded.at - message.created_at).total_seconds() for message in settlement.settled],
        )

    def _settle(
        self, batch: Batch, messages: Sequence[OutboxMessage], delivered: Delivered, deadline: Deadline, begun: float
    ) -> tuple[outbox.Settlement, outbox.Recorded]:
        self._before_settling()
        # Not settled by what a mongod acknowledged whose read models nobody has looked at.
        if self._delivery.mongod != self._mongod:
            raise InstallationChangedError("MongoDB's primary")
        settlement = settlement_of(messages, delivered.outcomes, self._patience)
        deadline.remaining()
        seconds, embedded = time.monotonic() - begun, lowest_versions(delivered.owners.values())
        return settlement, batch.settle(settlement, self._name, delivered.time, seconds, embedded=embedded)

    def _beat_when_due(self, connection: psycopg.Connection) -> None:
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + HEARTBEAT_SECONDS
            lanes.beat(connection, self._name)
            # Nothing is settled, so nobody shakes hands.
            installation = read_installation(connection)
            if not installation.is_kept_by(self._delivery.read_mark(), installation.handshake):
                raise InstallationChangedError("what MongoDB holds")

    def _end(self) -> None:
        """Say that nothing is left in hand. A lane that cannot say so is taken for one that was ended."""
        if self._connection is not None:
            with suppress(psycopg.Error), self._connection.transaction():
                lanes.end(self._connection, self._name)

    def _connected(self) -> tuple[psycopg.Connection, UUID]:
        is_replaced = self._mongod and self._delivery.mongod and self._delivery.mongod != self._mongod
        if self._in_doubt.is_set() or is_replaced:
            self._in_doubt.clear()
            self.close()
        if self._connection is None or self._installation is None:
            before = self._delivery.mongod
            self._connection, self._installation = self._open_connection()
            # Only now: what was done to open it had to be durable.
            prepare_to_relay(self._connection)
            self._mongod = before or self._delivery.mongod
        return self._connection, self._installation
