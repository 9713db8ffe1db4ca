"""Work that is done in rounds beside the lanes, and that nothing waits for: a fault only costs a round."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from projector.retry import TRANSIENT

FAULTS: Final = (psycopg.Error, *TRANSIENT)


def in_rounds(stop: threading.Event, seconds: float, step: Callable[[], bool]) -> None:
    """Do `step` every so often until `stop` is set; at once again while it says that there is more."""
    while not stop.is_set():
        if not step():
            stop.wait(seconds)


@contextmanager
def reporting(on_fault: Callable[[BaseException], None]) -> Iterator[None]:
    """Tell `on_fault` of a fault of the databases, and go on."""
    try:
        yield
    except FAULTS as error:
        on_fault(error)
