"""A look at a server that may hang."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from shared import look
from shared.look import Look


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may depend on how busy this machine is."""
    monkeypatch.setattr(look, "PATIENCE_SECONDS", 60)
    monkeypatch.setattr(look, "FRESH_SECONDS", 60)


def test_those_who_ask_at_once_are_told_what_one_look_found() -> None:
    numbers, go = count(1), threading.Event()

    def read() -> int:
        go.wait(20)
        return next(numbers)

    asked = Look(read)
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(asked.answer) for _ in range(8)]
        go.set()
        assert {answer.result() for answer in answers} == {1}


def test_an_answer_that_is_no_longer_fresh_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Look(count(1).__next__)
    monkeypatch.setattr(look, "FRESH_SECONDS", 0)
    monkeypatch.setattr(look, "QUICK_SECONDS", 60)
    assert asked.answer() == 1
    assert asked.answer() == 2


def test_a_look_that_is_not_quick_costs_at_most_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "FRESH_SECONDS", 1)
    now = 100.0
    monkeypatch.setattr(look.time, "monotonic", lambda: now)
    numbers = count(1)

    def slow() -> int:
        nonlocal now
        now += 3
        return next(numbers)

    asked = Look(slow)
    assert asked.answer() == 1
    now = 124.9
    assert asked.answer() == 1
    now = 125.1
    assert asked.answer() == 2


def test_a_server_that_keeps_silent_holds_nobody_up_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(look, "FRESH_SECONDS", 0)
    monkeypatch.setattr(look, "QUICK_SECONDS", 60)
    looks, speak = count(1), threading.Event()

    def read() -> int:
        number = next(looks)
        speak.wait(20)
        return number

    asked = Look(read)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            asked.answer()
    speak.set()
    monkeypatch.setattr(look, "PATIENCE_SECONDS", 20)
    # The one look that hung is the first; nobody looked beside it.
    assert asked.answer() in {1, 2}
    assert next(looks) <= 3


def test_what_went_wrong_is_told_and_the_next_look_may_go_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "FRESH_SECONDS", 0)
    outcomes = iter([ConnectionError("away"), 5])

    def read() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    asked = Look(read)
    with pytest.raises(ConnectionError, match="away"):
        asked.answer()
    assert asked.answer() == 5
