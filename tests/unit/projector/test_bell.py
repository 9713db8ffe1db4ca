"""A ring wakes one lane; with all busy it is kept for the next, and whoever rings knows which it was."""

import threading

import pytest

from projector import bell as bell_module
from projector.bell import Bell
from projector.position import ClaimPosition
from projector.wake import Woken
from tests.fixtures.waiting import wait_until

LONG = 60.0


class Waiting:
    """Threads that wait at a bell."""

    def __init__(self, bell: Bell, number: int) -> None:
        self.passed: list[int] = []
        self._threads = [threading.Thread(target=self._wait, args=(bell, n), daemon=True) for n in range(number)]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: bell._waiting == number, "they wait")  # noqa: SLF001 - nobody else needs to know

    def _wait(self, bell: Bell, number: int) -> None:
        bell.wait(LONG)
        self.passed.append(number)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(LONG)


def test_a_ring_wakes_one_of_those_who_wait() -> None:
    bell = Bell()
    waiting = Waiting(bell, 2)
    assert bell.ring()
    wait_until(lambda: len(waiting.passed) == 1, "one has passed")
    assert bell._waiting == 1  # noqa: SLF001 - as above
    bell.ring()
    waiting.join()
    assert sorted(waiting.passed) == [0, 1]


def test_a_ring_that_finds_nobody_waiting_is_kept_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    bell.wait(LONG)
    bell.wait(0.001)  # nothing is left: this one ends by the time


def test_what_was_rung_before_a_lane_looks_is_no_reason_to_look_again() -> None:
    bell = Bell()
    bell.ring()
    bell.hush()
    waiting = Waiting(bell, 1)
    assert waiting.passed == []
    bell.open()
    waiting.join()


def test_an_open_bell_lets_everybody_pass_whatever_was_hushed() -> None:
    bell = Bell()
    waiting = Waiting(bell, 3)
    bell.open()
    waiting.join()
    bell.hush()
    bell.wait(LONG)


@pytest.mark.parametrize(("patience", "comes"), [(LONG, True), (-1.0, False)])
def test_whoever_rings_knows_whether_the_lane_has_been_busy_for_long(
    monkeypatch: pytest.MonkeyPatch, patience: float, *, comes: bool
) -> None:
    monkeypatch.setattr(bell_module, "PATIENCE_SECONDS", patience)
    bell, position = Bell(), ClaimPosition()
    bell.hush()
    assert Woken(bell, position).wake(7) is comes
