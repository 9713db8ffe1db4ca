"""What clients were answered, judged by what they knew when they asked.

A token's read shows at least what the token names, whichever process and member answered. What a client knew to be
readable, because it was told so or a token's read of its own has shown it, none of its reads with a token lacks later.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from tests.chaos.storm.told import Told, by_client
from tests.chaos.storm.wrong import Finding, Wrong, name_of

# What a client may be told, by method, while everything around it breaks. Nothing ever answers 500.
EXPECTED: Final[Mapping[str, frozenset[int]]] = {
    "GET": frozenset({200, 404, 503}),
    "POST": frozenset({201, 202, 409, 503}),
    "PUT": frozenset({200, 202, 412, 503}),
    "DELETE": frozenset({200, 202, 404, 503}),
}


def stale(told: Told) -> Iterator[Finding]:
    """Find reads that showed less than their token names: of the aggregate itself, and of an owner in its item."""
    for read in told.token_reads:
        write = told.named[read.token]
        path, version = write.written
        shown = told.shown(read).get(path, version)
        owner = told.owner_shown(read)
        # A rename's token covers the items that could be read before it.
        if owner and owner[0] == path and told.visible_since[read.path] < write.begun:
            shown = owner[1]
        if shown < version:
            yield Finding(
                Wrong.STALE, f"{read.client} read {read.path} by {read.process}, version {shown} for {name_of(write)}"
            )


def went_back(told: Told) -> Iterator[Finding]:
    """Find token reads that showed less than their client already knew to be readable."""
    for entries in by_client(told.entries):
        known: dict[str, int] = {}
        for entry in entries:
            if told.is_token_read(entry):
                for path, version in told.shown(entry).items():
                    if version < known.get(path, 0):
                        what = f"{entry.client} read {path} at version {version}, knew version {known[path]}"
                        yield Finding(Wrong.WENT_BACK, what)
                _know(known, *told.named[entry.token].written)
            elif entry.is_write and entry.is_visible:
                _know(known, *entry.written)


def fell_behind(told: Told) -> int:
    """Count the token reads that showed less than an earlier one of their client had shown, if not than it knew.

    An earlier one may have shown what was not settled yet. No token of the client names that, so it is not promised.
    """
    count = 0
    for entries in by_client(told.token_reads):
        seen: dict[str, int] = {}
        for read in entries:
            shown = told.shown(read)
            count += any(version < seen.get(path, 0) for path, version in shown.items())
            for path, version in shown.items():
                _know(seen, path, version)
    return count


def _know(known: dict[str, int], path: str, version: int) -> None:
    known[path] = max(version, known.get(path, 0))


def answers(told: Told) -> Iterator[Finding]:
    """Find answers that no fault of a store or a process excuses."""
    for entry in told.entries:
        if entry.status is not None and entry.status not in EXPECTED[entry.method]:
            yield Finding(Wrong.ANSWER, f"{name_of(entry)}: {entry.status} {entry.problem} by {entry.process}")
        elif entry.problem == "projection-failed" or entry.answer_headers.get("projection-status") == "failed":
            yield Finding(Wrong.ANSWER, f"{name_of(entry)}: its projection is said to have failed")
