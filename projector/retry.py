"""Which faults pass by themselves, and how long to wait for them.

A transient fault (a database away, a failover, a time-out) gives the whole batch up: its transaction rolls back,
every message stays where it was, and no attempt is counted.
"""

import threading
from collections.abc import Callable
from typing import Final

import psycopg
from pymongo.errors import PyMongoError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from projector.deadline import DeadlinePassedError
from projector.replays import SwapUnfinishedError
from projector.shapes import ShapeError
from shared.installation import ForeignReadModelsError, InstallationChangedError, NotMigratedError
from shared.postgres import UNAVAILABLE

# What an operator must mend is waited for in the same way: the relay goes on by itself afterwards.
TRANSIENT: Final = (
    *UNAVAILABLE,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.FeatureNotSupported,  # a migration changed a column under a prepared statement
    PyMongoError,
    DeadlinePassedError,
    NotMigratedError,
    ForeignReadModelsError,
    InstallationChangedError,
    ShapeError,
    SwapUnfinishedError,
)

# Codes of MongoDB's error_codes.yml that speak of the server's state and not of the document.
TRANSIENT_CODES: Final = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        11,  # UserNotFound
        13,  # Unauthorized
        18,  # AuthenticationFailed
        24,  # LockTimeout
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        100,  # UnsatisfiableWriteConcern
        112,  # WriteConflict
        134,  # ReadConcernMajorityNotAvailableYet
        175,  # QueryPlanKilled
        189,  # PrimarySteppedDown
        262,  # ExceededTimeLimit
        9001,  # SocketException
        10058,  # LegacyNotPrimary
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        13388,  # StaleConfig
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        14031,  # OutOfDiskSpace
    }
)

# Full jitter, so that projectors that lost the same server do not come back in step.
BACKOFF: Final = wait_random_exponential(multiplier=0.1, max=3)


def retrying(
    stop: threading.Event,
    errors: tuple[type[BaseException], ...] = TRANSIENT,
    on_retry: Callable[[BaseException, float], None] | None = None,
) -> Retrying:
    """Return tenacity's loop over attempts that go on, with backoff and jitter, until one succeeds or `stop` is set.

    `on_retry` is told the error and the seconds until the next attempt. When stopped, the last error is swallowed.
    """

    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if on_retry and error:
            on_retry(error, state.next_action.sleep if state.next_action else 0.0)

    return Retrying(
        retry=retry_if_exception_type(errors),
        wait=BACKOFF,
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=report,
        retry_error_callback=lambda _: None,
    )
