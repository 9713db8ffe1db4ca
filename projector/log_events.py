"""The names of the projector's log lines. Everything else of a line is in fields; a name is never put together."""

from typing import Final

STARTED: Final = "projector.started"
DRAINING: Final = "projector.draining"
STOPPED: Final = "projector.stopped"
# A part of the process ended on an error of ours; the traceback is in `exception`.
BROKE_OFF: Final = "projector.broke_off"
# The canonical line, one per batch with messages: lane, the counts of what became of them, seconds.
BATCH: Final = "relay.batch"
# A lane cannot go on for now: lane, reason, next_attempt_seconds. Said once for each new reason.
WAITING: Final = "relay.waiting"
RECOVERED: Final = "relay.recovered"
# What has expired was deleted: counts of idempotency_keys, verifications, replays and tombstones; or could not be, and
# will be in a later round: reason.
PURGED: Final = "housekeeping.purged"
PURGE_FAILED: Final = "housekeeping.failed"
# A sample of a read model found drift: aggregate_type, compared, missing, stale, orphaned, different, examples; or
# could not be taken, and will be in the next round: reason.
DRIFT: Final = "sample.drift"
SAMPLE_FAILED: Final = "sample.failed"
# Somebody acted on dead letters on the web page: operator, action, selected, number, and the first ids of them.
OPERATED: Final = "console.operated"
