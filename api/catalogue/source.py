"""Where the entries of an import come from: a file, standard input, made up for volume, or the demo data."""

import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from api.catalogue.demo import DEMO_LINES, demo_entries
from api.catalogue.entries import Entry
from api.catalogue.lines import read_entries
from api.catalogue.volume import volume_entries

STDIN: Final = Path("-")
COUNTED_BYTES: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class Source:
    """The entries, to be read once, and the number of lines where it is known."""

    entries: Iterator[Entry]
    total: int | None


@contextmanager
def open_source(path: Path | None, users: int, items: int) -> Iterator[Source]:
    """Open the file at `path`, else make up `users` and `items`, else take the demo data. Raises OSError."""
    if path == STDIN:
        yield Source(read_entries(sys.stdin.buffer), None)
    elif path is not None:
        with path.open("rb") as stream:
            total = _count_lines(stream) if stat.S_ISREG(path.stat().st_mode) else None
            yield Source(read_entries(stream), total)
    elif users:
        yield Source(volume_entries(users, items), users + items)
    else:
        yield Source(demo_entries(), DEMO_LINES)


def _count_lines(stream: BinaryIO) -> int:
    lines = 0
    while block := stream.read(COUNTED_BYTES):
        lines += block.count(b"\n")
    stream.seek(0)
    return lines
