"""What clients tell each other: what there is to write on, and the tokens they were answered."""

import threading
from collections import deque
from random import Random
from typing import Final

from tests.chaos.storm.ledger import Entry

RECENT: Final = 100


class Board:
    """Shared by the threads of all clients. Aggregates are called by their paths."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._journals: dict[str, str] = {}
        self._newest: dict[str, tuple[int, str]] = {}
        self._recent: deque[tuple[str, str]] = deque(maxlen=RECENT)

    def publish(self, entry: Entry) -> None:
        """Let everybody have the token of a write that was acknowledged."""
        if not entry.is_acknowledged:
            return
        path, version = entry.written
        with self._lock:
            self._recent.append((path, entry.answered_token))
            if version > self._newest.get(path, (0, ""))[0]:
                self._newest[path] = version, entry.answered_token

    def recent(self, random: Random) -> tuple[str, str] | None:
        """Return one of the last writes: what was written, and the token."""
        with self._lock:
            return random.choice(self._recent) if self._recent else None

    def token_of(self, path: str) -> str:
        """Return the newest token of an aggregate."""
        with self._lock:
            return self._newest[path][1]

    def keep_journal(self, owner: str, path: str) -> None:
        """Let `path` be the item of this user on which everybody writes."""
        with self._lock:
            self._journals[owner] = path

    def journal_of(self, owner: str) -> str | None:
        """Return the item of this user on which everybody writes."""
        with self._lock:
            return self._journals.get(owner)

    def owner(self, random: Random) -> str:
        """Return one of the users who have such an item."""
        with self._lock:
            return random.choice(sorted(self._journals))
