"""What the relay reports: every log line of it lives here, a method an event; its metrics are told of the same.

It also keeps the state of each lane, for /ready.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry

from projector import log_events
from projector.drift import Drift
from projector.metrics import LaneState, RelayMetrics
from projector.relay import BatchCounts
from projector.verifications import Verification
from shared.logs import get_logger

# Of what a sample found, so many are named.
EXAMPLES: Final = 5
IDS_LOGGED: Final = 20


@dataclass(frozen=True, slots=True)
class Lane:
    """What a lane is doing, and for what it waits."""

    state: LaneState = "starting"
    reason: str = ""


class RelaySubscriber:
    """Told of everything that happens; safe to call from any thread."""

    def __init__(self, lanes: int) -> None:
        self._log = get_logger("relay")
        self._lock = threading.Lock()
        self._lanes = [Lane()] * lanes
        self._metrics = RelayMetrics()
        self._metrics.lanes(lane.state for lane in self._lanes)

    @property
    def registry(self) -> CollectorRegistry:
        """Where this projector's metrics are."""
        return self._metrics.registry

    @property
    def lanes(self) -> list[Lane]:
        """The state of each lane now."""
        with self._lock:
            return list(self._lanes)

    def started(self, name: str, port: int) -> None:
        """The process is up; the lanes may still wait for a server."""
        self._log.info(log_events.STARTED, name=name, port=port)

    def operated(self, operator: str, action: str, selected: Mapping[str, object], ids: Sequence[int]) -> None:
        """The bearer of a token acted on dead letters."""
        self._log.info(
            log_events.OPERATED,
            operator=operator,
            action=action,
            selected=selected,
            number=len(ids),
            ids=ids[:IDS_LOGGED],
        )

    def draining(self) -> None:
        """The process was told to stop and finishes what it has in hand."""
        self._log.info(log_events.DRAINING)

    def stopped(self) -> None:
        """Everything in hand is settled or given back."""
        self._log.info(log_events.STOPPED)

    def broke_off(self, error: Exception) -> None:
        """A part of the process ended on an error that is not transient."""
        self._log.error(log_events.BROKE_OFF, exc_info=error)

    def purged(self, counts: Mapping[str, int]) -> None:
        """Housekeeping deleted so many of what has expired, by what it is."""
        if any(counts.values()):
            self._log.info(log_events.PURGED, **counts)

    def purge_failed(self, error: BaseException) -> None:
        """Housekeeping could not be done; the next round tries again."""
        self._log.warning(log_events.PURGE_FAILED, reason=describe(error))

    def sampled(self, verification: Verification, found: Sequence[Drift]) -> None:
        """Some documents of a read model were compared with their rows."""
        if found:
            self._log.warning(
                log_events.DRIFT,
                aggregate_type=verification.aggregate_type,
                compared=verification.compared,
                **verification.kinds,
                examples=[str(drift) for drift in found[:EXAMPLES]],
            )

    def sample_failed(self, error: BaseException) -> None:
        """No sample could be taken; the next round tries again."""
        self._log.warning(log_events.SAMPLE_FAILED, reason=describe(error))

    def batch(self, lane: int, counts: BatchCounts) -> None:
        """A step went well, if only to find nothing to do."""
        self._change(lane, Lane("relaying"))
        if not counts.claimed:
            return
        self._metrics.batch(counts)
        log = self._log.warning if counts.failed or counts.dead else self._log.info
        log(
            log_events.BATCH,
            lane=lane,
            claimed=counts.claimed,
            applied=counts.applied,
            stale=counts.stale,
            settled=counts.settled,
            failed=counts.failed,
            dead=counts.dead,
            unfinished=counts.unfinished,
            seconds=round(counts.seconds, 6),
        )

    def fault(self, lane: int, error: BaseException, seconds: float) -> None:
        """A batch was given up and will be tried again. Said once for each new reason, not for each attempt."""
        self._metrics.fault(error)
        reason = describe(error)
        if self._change(lane, Lane("waiting", reason)):
            self._log.warning(log_events.WAITING, lane=lane, reason=reason, next_attempt_seconds=round(seconds, 3))

    def _change(self, lane: int, now: Lane) -> bool:
        with self._lock:
            before, self._lanes[lane] = self._lanes[lane], now
            if before.state != now.state:
                self._metrics.lanes(lane.state for lane in self._lanes)
        if before.state == "waiting" and now.state == "relaying":
            self._log.info(log_events.RECOVERED, lane=lane)
        return before != now


def describe(error: BaseException) -> str:
    """Return the error as one line that names its kind."""
    # PyMongo appends the server's whole answer.
    text = " ".join(str(error).partition(", full error:")[0].split())
    return f"{type(error).__name__}: {text[:500]}"
