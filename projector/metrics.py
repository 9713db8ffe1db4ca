"""What one projector's relay counts, for Prometheus. What is true of all of them is in installation_metrics."""

from collections import Counter as Counts
from collections.abc import Iterable
from typing import Final, Literal, get_args

import psycopg
from prometheus_client import Counter, Gauge, Histogram
from pymongo.errors import PyMongoError

from projector.deadline import DeadlinePassedError
from projector.phases import PHASES
from projector.relay import BatchCounts
from projector.replays import SwapUnfinishedError
from projector.shapes import ShapeError
from shared.installation import ForeignReadModelsError, InstallationChangedError, NotMigratedError
from shared.metrics import SECONDS, create_registry

LaneState = Literal["starting", "relaying", "waiting"]
Cause = Literal["postgres", "mongo", "deadline", "migration", "installation", "replay"]

OUTCOMES: Final = ("settled", "failed", "dead", "unfinished", "superseded")
VERDICTS: Final = ("applied", "stale")
BATCH_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

# A write that waited for a database that was away for an hour is still told from one that waited for a minute.
VISIBLE_SECONDS: Final = (*SECONDS, 60.0, 300.0, 1800.0, 3600.0)


class RelayMetrics:
    """Told of what the lanes do. Every series is there from the start, so that its first increase is seen as one."""

    def __init__(self) -> None:
        self.registry = registry = create_registry()
        self._messages = Counter(
            "kata_relay_messages", "Messages by what became of them", ["outcome"], registry=registry
        )
        self._writes = Counter("kata_relay_writes", "Documents by the gate's verdict", ["verdict"], registry=registry)
        self._faults = Counter(
            "kata_relay_faults", "Batches given up on a transient fault, by where it lay", ["cause"], registry=registry
        )
        self._lanes = Gauge("kata_relay_lanes", "Lanes by what they do", ["state"], registry=registry)
        self._batch_messages = Histogram(
            "kata_relay_batch_messages", "Messages claimed at once", buckets=BATCH_SIZES, registry=registry
        )
        self._batch_seconds = Histogram(
            "kata_relay_batch_seconds", "Time of a batch, claim to commit", buckets=SECONDS, registry=registry
        )
        self._phase_seconds = Histogram(
            "kata_relay_phase_seconds", "Time of a batch by phase", ["phase"], buckets=SECONDS, registry=registry
        )
        self._visible_seconds = Histogram(
            "kata_commit_to_visible_seconds", "Time from a command to where reads show it, by PostgreSQL's clock",
            buckets=VISIBLE_SECONDS, registry=registry,
        )  # fmt: skip
        for metric, values in (
            (self._messages, OUTCOMES),
            (self._writes, VERDICTS),
            (self._faults, get_args(Cause)),
            (self._lanes, get_args(LaneState)),
            (self._phase_seconds, PHASES),
        ):
            for value in values:
                metric.labels(value)

    def batch(self, counts: BatchCounts) -> None:
        """Count a batch that had messages."""
        self._batch_messages.observe(counts.claimed)
        self._batch_seconds.observe(counts.seconds)
        for phase, seconds in counts.phases.items():
            self._phase_seconds.labels(phase).observe(seconds)
        for seconds in counts.visible_seconds:
            self._visible_seconds.observe(seconds)
        for outcome in OUTCOMES:
            self._messages.labels(outcome).inc(getattr(counts, outcome))
        for verdict in VERDICTS:
            self._writes.labels(verdict).inc(getattr(counts, verdict))

    def fault(self, error: BaseException) -> None:
        """Count a batch that was given up."""
        self._faults.labels(cause_of(error)).inc()

    def lanes(self, states: Iterable[LaneState]) -> None:
        """Show what the lanes do now."""
        counts = Counts(states)
        for state in get_args(LaneState):
            self._lanes.labels(state).set(counts[state])


def cause_of(error: BaseException) -> Cause:
    """Return where a transient fault lay."""
    match error:
        case ForeignReadModelsError() | InstallationChangedError():
            return "installation"
        case NotMigratedError() | psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn():
            return "migration"
        case ShapeError() | SwapUnfinishedError():
            return "replay"
        case PyMongoError():
            return "mongo"
        case DeadlinePassedError():
            return "deadline"
        case _:
            return "postgres"
