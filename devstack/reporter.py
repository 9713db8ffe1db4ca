"""How `kata` tells what it is doing: a live line on a terminal, plain lines elsewhere.

The result goes to stdout. With --json progress goes to stderr, so that stdout's last line is the object.
"""

import json
import os
import sys
from pathlib import Path
from typing import Protocol, TextIO

from devstack.addresses import Addresses


class Reporter(Protocol):
    """Whoever wants to know."""

    def step(self, text: str) -> None:
        """Something begins that takes a moment."""

    def note(self, text: str) -> None:
        """Something happened that should be read later, too."""

    def ready(self, addresses: Addresses) -> None:
        """Everything is up."""


class PlainReporter:
    """Lines, for files and pipes."""

    def __init__(self, data: Path, *, as_json: bool, closing: str | None = None) -> None:
        self._data = data
        self._as_json = as_json
        self._closing = closing

    def step(self, text: str) -> None:
        """One line."""
        self.note(f"{text} ...")

    def note(self, text: str) -> None:
        """One line."""
        write_line(text, sys.stderr if self._as_json else sys.stdout)

    def ready(self, addresses: Addresses) -> None:
        """The addresses, as an object or for people."""
        for line in (*addresses.lines(self._data), *([self._closing] if self._closing else [])):
            self.note(line)
        if self._as_json:
            write_line(json.dumps(addresses.as_json()), sys.stdout)

    def close(self) -> None:
        """Leave the output as it was found."""


def write_line(text: str, stream: TextIO) -> None:
    """Write and flush.

    A reader that has gone (`kata up | head`, a closed terminal) must not stop the databases.
    """
    try:
        stream.write(text + "\n")
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class TerminalReporter(PlainReporter):
    """The same with a live line for what is going on."""

    def __init__(self, data: Path, *, as_json: bool, closing: str | None = None) -> None:
        from rich.console import Console  # noqa: PLC0415 - `kata --help` should not wait for it

        super().__init__(data, as_json=as_json, closing=closing)
        self._status = Console(stderr=as_json).status("Starting ...")

    def step(self, text: str) -> None:
        """Replace the live line."""
        self._status.update(f"{text} ...")
        self._status.start()

    def note(self, text: str) -> None:
        """One line; the live line makes room for it."""
        self._status.stop()
        super().note(text)

    def close(self) -> None:
        """End the live line, also when an error is about to be told: it hides the cursor."""
        self._status.stop()


def reporter_for(data: Path, *, as_json: bool, closing: str | None = None) -> PlainReporter:
    """The one that suits where the output goes."""
    on_terminal = (sys.stderr if as_json else sys.stdout).isatty()
    kind = TerminalReporter if on_terminal else PlainReporter
    return kind(data, as_json=as_json, closing=closing)
