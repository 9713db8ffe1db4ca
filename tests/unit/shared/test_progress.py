import io
import sys
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace

import pytest

from shared import progress
from shared.progress import LINE_EVERY_SECONDS, BarProgress, PlainProgress, show_progress


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A clock on which every look costs as long as there is between two lines."""
    clock = count(step=int(LINE_EVERY_SECONDS))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    return clock


def test_without_a_terminal_a_line_tells_rate_and_rest(
    seconds: Iterator[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with PlainProgress("lines", 4000) as plain:
        plain.advance(1000)
        plain.advance(3000)
    assert capsys.readouterr().err.splitlines() == [
        "1,000 of 4,000 lines, 200 lines/s, 15 s left",
        "3,000 of 4,000 lines, 300 lines/s, 3 s left",
    ]


def test_while_nothing_is_done_no_line_tells_when_it_will_be(
    seconds: Iterator[int], capsys: pytest.CaptureFixture[str]
) -> None:
    with PlainProgress("lines", 4000) as plain:
        plain.advance(0)
    assert capsys.readouterr().err == "0 of 4,000 lines, 0 lines/s\n"


def test_without_a_total_a_line_tells_the_rate(seconds: Iterator[int], capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress("lines", None) as plain:
        plain.advance(1000)
    assert capsys.readouterr().err == "1,000 lines, 200 lines/s\n"


def test_without_a_terminal_lines_are_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainProgress("lines", 1000) as plain:
        for lines in range(1000):
            plain.advance(lines)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("total", [10, None])
def test_on_a_terminal_there_is_a_bar_and_lines_come_out_as_they_are(
    monkeypatch: pytest.MonkeyPatch, total: int | None
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with show_progress("lines", total) as bar:
        assert isinstance(bar, BarProgress)
        bar.advance(5)
        bar.say("line 3: tags.1: [bold]must not be blank")
        bar.advance(10)
    assert "line 3: tags.1: [bold]must not be blank" in terminal.getvalue()
    assert "10 lines" in terminal.getvalue()


def test_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(show_progress("lines", 3), PlainProgress)
