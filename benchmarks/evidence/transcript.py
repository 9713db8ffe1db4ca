"""Commands as they were run and what they printed, for a document: no password, no path of one machine."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from devstack.instance import Completed, Instance

_PASSWORD: Final = re.compile(r"(\w+://[^:/\s]+:)[^@\s]+@")
_NAMES: Final = {str(Path.cwd()): "."}


class Transcript:
    """Runs commands against one instance and keeps what an operator would have seen."""

    def __init__(self, kata: Instance) -> None:
        self._kata = kata
        self._lines: list[str] = []

    def run(self, shown: str, command: Sequence[str], *, text: str | None = None, code: int = 0) -> Completed:
        """Run `command`, shown as `shown`; anything but exit code `code` is an error of the evidence."""
        done = self._kata.run(command, text=text, seconds=1800)
        if done.returncode != code:
            raise RuntimeError(f"{shown} ended with {done.returncode}: {done.stdout}{done.stderr}")
        self.note(f"$ {shown}", *done.stdout.splitlines())
        return done

    def note(self, *lines: str) -> None:
        """Add lines as they are."""
        self._lines += lines

    def block(self) -> str:
        """Return everything as one block of Markdown."""
        text = "\n".join(self._lines)
        for path, name in _NAMES.items():
            text = text.replace(path, name)
        return "```text\n" + _PASSWORD.sub(r"\1***@", text) + "\n```"
