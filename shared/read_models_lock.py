"""The lock on the read models: whoever writes them holds it shared, whoever replaces them must be alone.

A request to be alone that waits stalls everybody who comes after it. So it gives up early, lets the others through and
tries again, with a little more patience each time: in the end it waits as long as a batch may last.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from shared.postgres import READ_MODELS_LOCK

FIRST_PATIENCE_SECONDS: Final = 0.5
LONGEST_PATIENCE_SECONDS: Final = 10.0
# How much longer each request waits than the one before.
GROWTH: Final = 1.3
GIVE_UP_SECONDS: Final = 60.0


class ReadModelsInUseError(psycopg.errors.LockNotAvailable):
    """Others have held the read models all the time."""

    def __init__(self) -> None:
        super().__init__("the read models were in use all the time: nothing was changed, try again")


@contextmanager
def alone_with_read_models(connection: psycopg.Connection) -> Iterator[None]:
    """Keep everybody else from writing the read models. `connection` is in autocommit mode.

    Raises ReadModelsInUseError when they were in use for a minute; then nothing was done.
    """
    attempts = Retrying(
        retry=retry_if_exception_type(psycopg.errors.LockNotAvailable),
        wait=wait_random_exponential(multiplier=0.1, max=2),
        stop=stop_after_delay(GIVE_UP_SECONDS),
        reraise=True,
    )
    try:
        for attempt in attempts:
            with attempt:
                _lock(connection, attempt.retry_state.attempt_number)
    except psycopg.errors.LockNotAvailable as error:
        raise ReadModelsInUseError from error
    try:
        yield
    finally:
        # A connection that broke has lost the lock already.
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (READ_MODELS_LOCK,))


def _lock(connection: psycopg.Connection, attempt: int) -> None:
    seconds = min(FIRST_PATIENCE_SECONDS * GROWTH ** (attempt - 1), LONGEST_PATIENCE_SECONDS)
    connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{seconds * 1000:.0f}ms",))
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (READ_MODELS_LOCK,))
    finally:
        connection.execute("RESET lock_timeout")
