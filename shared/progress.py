"""How far long work is, on stderr: a bar on a terminal, a line every few seconds anywhere else."""

import sys
import time
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_EVERY_SECONDS: Final = 5.0


class Progress(Protocol):
    """Told how much is done, and what to say in between."""

    def advance(self, done: int) -> None:
        """Show that `done` are done by now."""

    def say(self, text: str) -> None:
        """Print a line of its own."""


class PlainProgress:
    """Lines for a log: how many are done, how fast, and how long the rest will take if the total is known."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def advance(self, done: int) -> None:
        """Print how far it is, unless a line was printed a moment ago."""
        now = time.monotonic()
        if now - self._printed < LINE_EVERY_SECONDS:
            return
        self._printed = now
        rate = done / (now - self._started)
        total = "" if self._total is None else f" of {self._total:,}"
        left = f", {(self._total - done) / rate:.0f} s left" if self._total is not None and done else ""
        self.say(f"{done:,}{total} {self._what}, {rate:,.0f} {self._what}/s{left}")

    def say(self, text: str) -> None:
        """Print the text."""
        sys.stderr.write(f"{text}\n")


class BarProgress:
    """A bar at the bottom of the terminal, above which lines are printed."""

    def __init__(self, what: str, total: int | None) -> None:
        self._bar = Bar(
            BarColumn(),
            TextColumn(f"{{task.completed:,.0f}} {what}"),
            TextColumn(f"{{task.fields[rate]:,.0f}} {what}/s"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._started = time.monotonic()
        self._task = self._bar.add_task(what, total=total, rate=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, done: int) -> None:
        """Move the bar."""
        rate = done / max(time.monotonic() - self._started, 0.001)
        self._bar.update(self._task, completed=done, rate=rate)

    def say(self, text: str) -> None:
        """Print the text above the bar, as it is."""
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_progress(what: str, total: int | None) -> PlainProgress | BarProgress:
    """Return what suits stderr. `what` is counted, `total` is how many there are, where that is known."""
    return BarProgress(what, total) if sys.stderr.isatty() else PlainProgress(what, total)
