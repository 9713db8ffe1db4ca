"""The ledger: every request of every client and what it was answered, in a file outside of both stores."""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

# Names as httpx spells them.
TOKEN: Final = "consistency-token"
KEY: Final = "idempotency-key"
KEPT: Final = (TOKEN, "etag", "location", "projection-status", "retry-after")
GONE: Final = 2**62  # the version of what was deleted: no other is newer
OUTCOME_UNKNOWN: Final = "outcome-unknown"
IN_FLIGHT: Final = "idempotency-key-in-flight"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `status` is None when no answer came; `reached` tells whether anybody may have got the request.

    `mark` is unique to a command and comes back in what the command writes; a command may be sent several times.
    """

    client: str
    process: str
    method: str
    path: str
    begun: float
    ended: float
    mark: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    reached: bool = True
    status: int | None = None
    error: str = ""
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    answer: Any = None

    @property
    def problem(self) -> str:
        """The kind of problem that was answered, if one was."""
        kind = self.answer.get("type", "") if isinstance(self.answer, dict) else ""
        return str(kind).rpartition(":")[2]

    @property
    def is_write(self) -> bool:
        """Whether it is a command."""
        return self.method != "GET"

    @property
    def is_acknowledged(self) -> bool:
        """Whether the client was told that it is done."""
        return self.status in {200, 201, 202}

    @property
    def is_visible(self) -> bool:
        """Whether the client was told that reads show it."""
        return self.status in {200, 201}

    @property
    def is_unknown(self) -> bool:
        """Whether a command may have been done or not."""
        if not self.is_write or not self.reached:
            return False
        return self.status is None or self.problem == OUTCOME_UNKNOWN or self.status == 500

    @property
    def may_be_repeated(self) -> bool:
        """Whether a client sends the same again: nothing came of it, or to do it twice is to do it once."""
        if self.is_unknown:
            return self.method == "DELETE" or KEY in self.headers
        return self.status is None or self.status >= 500 or self.problem == IN_FLIGHT

    @property
    def written(self) -> tuple[str, int]:
        """The aggregate, by its path, that an acknowledged command wrote, and the version it made."""
        path = self.answer_headers["location"] if self.method == "POST" else self.path
        return path, GONE if self.method == "DELETE" else self.answer["version"]

    @property
    def token(self) -> str:
        """The token that the request carried."""
        return self.headers.get(TOKEN, "")

    @property
    def answered_token(self) -> str:
        """The token that the answer carried."""
        return self.answer_headers.get(TOKEN, "")


class Ledger:
    """A JSON object a line. Clients write from threads of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self.acknowledged = 0

    def write(self, entry: Entry) -> None:
        """Add an entry before anything else is done with the answer."""
        line = json.dumps(asdict(entry))
        with self._lock:
            self._file.write(f"{line}\n")
            self.acknowledged += entry.is_write and entry.is_acknowledged

    def close(self) -> None:
        """No more will be written."""
        self._file.close()


def read_ledger(path: Path) -> Iterator[Entry]:
    """Yield the entries in the order in which they were written."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield Entry(**json.loads(line))
