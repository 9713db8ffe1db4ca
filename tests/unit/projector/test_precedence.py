"""Clients first: how long a lane stands back, and what ends it."""

import threading
from collections.abc import Callable

import pytest

from projector import precedence
from projector.precedence import Precedence


class Stop(threading.Event):
    """Tells of each wait, which takes as long on the clock; `act` is done meanwhile."""

    def __init__(self, act: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.now = 100.0
        self.waits: list[float] = []
        self._act = act

    def wait(self, timeout: float | None = None) -> bool:
        """Let the time pass."""
        assert timeout is not None
        self.waits.append(round(timeout, 6))
        self.now += timeout
        self._act()
        return self.is_set()


def test_nobody_stands_back_unless_a_client_was_served() -> None:
    stop = Stop()
    Precedence(lambda: stop.now).stand_back(stop)
    assert stop.waits == []


def test_it_lasts_until_no_client_was_served_for_a_while() -> None:
    served = iter([True, True, False])

    def serve_again() -> None:
        if next(served):
            stop.now -= precedence.SECONDS / 2
            clients.served()

    stop = Stop(serve_again)
    clients = Precedence(lambda: stop.now)
    clients.served()

    clients.stand_back(stop)

    assert stop.waits == [pytest.approx(precedence.SECONDS)] * 3


def test_a_process_that_stops_does_not_wait_for_it() -> None:
    stop = Stop()
    stop.set()
    clients = Precedence(lambda: stop.now)
    clients.served()

    clients.stand_back(stop)

    assert len(stop.waits) == 1
