"""The position of a claim is a hint: wakes take it back, sweeps start anew, and a slow sweep comes less often."""

import pytest

from projector.position import SWEEP_SECONDS, ClaimPosition
from shared.outbox.wake import FROM_THE_START


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def position(clock: Clock) -> ClaimPosition:
    """A position whose first sweep found everything up to message 50."""
    position = ClaimPosition(clock)
    assert position.start() == FROM_THE_START
    position.claimed(50, seconds=0, swept=True, full=False)
    return position


def test_a_claim_starts_after_the_last_one(position: ClaimPosition) -> None:
    assert position.start() == 50
    position.claimed(60, seconds=0, swept=False, full=True)
    assert position.start() == 60


def test_an_empty_claim_changes_nothing(position: ClaimPosition) -> None:
    position.claimed(position.start(), seconds=0, swept=False, full=False)
    assert position.start() == 50


def test_a_wake_takes_the_next_claim_back_once(position: ClaimPosition) -> None:
    position.take_back(21)
    assert position.start() == 20
    position.claimed(21, seconds=0, swept=False, full=False)
    assert position.start() == 50


def test_the_lowest_of_several_wakes_counts(position: ClaimPosition) -> None:
    for message_id in (30, 21, 40):
        position.take_back(message_id)
    assert position.start() == 20


def test_a_wake_ahead_does_not_move_the_position_forward(position: ClaimPosition) -> None:
    position.take_back(1000)
    assert position.start() == 50


def test_a_wake_without_an_id_starts_from_the_beginning(position: ClaimPosition) -> None:
    position.take_back(FROM_THE_START)
    assert position.start() == FROM_THE_START


def test_a_wake_is_not_lost_to_a_claim_of_the_other_lane_that_ends_after_it(position: ClaimPosition) -> None:
    position.start()
    position.take_back(21)
    position.claimed(70, seconds=0, swept=False, full=True)
    assert position.start() == 20


def test_a_full_claim_below_the_position_goes_on_behind_its_last_message(position: ClaimPosition) -> None:
    position.take_back(11)
    position.claimed(position.start() + 10, seconds=0, swept=False, full=True)
    assert position.start() == 20
    # The other lane's claim ahead does not make it forget.
    position.claimed(30, seconds=0, swept=False, full=True)
    position.claimed(90, seconds=0, swept=False, full=True)
    assert position.start() == 30
    position.claimed(35, seconds=0, swept=False, full=False)
    assert position.start() == 90


def test_a_sweep_is_due_every_second(position: ClaimPosition, clock: Clock) -> None:
    assert position.start() == 50
    clock.now += SWEEP_SECONDS
    assert position.start() == FROM_THE_START
    position.claimed(FROM_THE_START, seconds=0, swept=True, full=False)
    assert position.start() == 50


def test_only_one_lane_sweeps_when_a_sweep_is_due(position: ClaimPosition, clock: Clock) -> None:
    clock.now += SWEEP_SECONDS
    assert position.start() == FROM_THE_START
    assert position.start() == 50


def test_a_slow_sweep_comes_less_often(position: ClaimPosition, clock: Clock) -> None:
    clock.now += SWEEP_SECONDS
    position.start()
    clock.now += 5
    position.claimed(50, seconds=5, swept=True, full=False)
    clock.now += 49
    assert position.start() == 50
    clock.now += 1
    assert position.start() == FROM_THE_START
