"""One instance per data directory. The kernel holds the lock and lets go of it however its holder ends.

Others only probe it, for an instant and shared among themselves; therefore taking it is tried for a moment
before a second instance is believed in. The file is never removed: two holders of different files would both
think they are alone.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from devstack.errors import ConfigurationError

TRYING_SECONDS = 0.5


@contextlib.contextmanager
def held(file: Path) -> Iterator[None]:
    """Hold the lock. Raises ConfigurationError when another instance does. Children do not inherit it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        trying = Retrying(
            retry=retry_if_exception_type(BlockingIOError),
            wait=wait_fixed(0.02),
            stop=stop_after_delay(TRYING_SECONDS),
        )
        try:
            trying(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except RetryError:
            message = (
                f"Another instance is already running on {file.parent}:"
                " stop it with `kata down`, or choose another place with --data-dir."
            )
            raise ConfigurationError(message) from None
        yield
    finally:
        os.close(descriptor)


def is_held(file: Path) -> bool:
    """Whether an instance is alive."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        message = f"The data in {file.parent} belong to another user: run kata as that user."
        raise ConfigurationError(message) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
