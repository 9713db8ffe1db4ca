"""What a judge may find."""

from dataclasses import dataclass
from enum import Enum

from tests.chaos.storm.ledger import Entry


class Wrong(Enum):
    """What can be wrong."""

    LOST = "lost"
    DUPLICATE = "duplicate"
    UNTRUE = "done although the client was told that nothing was changed"
    STALE = "stale token read"
    WENT_BACK = "went back"
    DRIFT = "drift"
    ANSWER = "answer that no client should get"
    PROCESS = "process that ended by itself"
    REPLAY = "replay that failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    wrong: Wrong
    what: str

    def __str__(self) -> str:
        return f"{self.wrong.value}: {self.what}"


def name_of(entry: Entry) -> str:
    """Return how a finding calls a request; its time leads to it in the ledger."""
    return f"{entry.method} {entry.path} {entry.mark}".strip() + f" at {entry.begun:.3f}"
