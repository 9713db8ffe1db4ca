"""What clients were told, read out of the ledger: commands, versions, and what each token names."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from tests.chaos.storm.ledger import GONE, Entry

ABSENT: Final = 0
ENDLESS: Final = float("inf")


class Told:
    """The entries of a ledger, in the order in which they began, and what follows from them."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: Sequence[Entry] = sorted(entries, key=lambda entry: entry.begun)

    @cached_property
    def commands(self) -> Sequence[Entry]:
        """Every request that is a command, each repetition as well."""
        return [entry for entry in self.entries if entry.is_write]

    @cached_property
    def acknowledged(self) -> Sequence[Entry]:
        """The requests that were answered that their command is done."""
        return [entry for entry in self.commands if entry.is_acknowledged]

    @cached_property
    def token_reads(self) -> Sequence[Entry]:
        """The reads with a token that were answered: with what there is, or that there is nothing."""
        return [entry for entry in self.entries if self.is_token_read(entry)]

    def is_token_read(self, entry: Entry) -> bool:
        """Return whether it is one of the token reads."""
        return entry.method == "GET" and entry.status in {200, 404} and entry.token in self.named

    @cached_property
    def by_mark(self) -> Mapping[str, Sequence[Entry]]:
        """The requests of each command."""
        return _grouped((entry.mark, entry) for entry in self.commands)

    @cached_property
    def changes(self) -> Mapping[str, Sequence[Entry]]:
        """The PUTs to each aggregate."""
        return _grouped((entry.path, entry) for entry in self.commands if entry.method == "PUT")

    @cached_property
    def named(self) -> Mapping[str, Entry]:
        """The command that each token names."""
        return {entry.answered_token: entry for entry in self.acknowledged}

    @cached_property
    def _deletions(self) -> Mapping[str, Sequence[Entry]]:
        deletions = (entry for entry in self.commands if entry.method == "DELETE")
        return _grouped((entry.path, entry) for entry in deletions if entry.is_acknowledged or entry.is_unknown)

    def may_be_deleted(self, path: str, by: float = ENDLESS) -> bool:
        """Return whether somebody may have deleted it by then."""
        return any(entry.begun < by for entry in self._deletions.get(path, ()))

    @cached_property
    def visible_since(self) -> Mapping[str, float]:
        """When a client knew first that reads show an aggregate."""
        since: dict[str, float] = {}
        for entry in self.entries:
            if entry.is_visible and "?" not in entry.path:
                path = entry.written[0] if entry.is_write else entry.path
                since[path] = min(entry.ended, since.get(path, ENDLESS))
        return since

    def shown(self, read: Entry) -> Mapping[str, int]:
        """Return the versions that a read showed. What a list passes over although its place is there is ABSENT."""
        if "?" in read.path:
            return self._listed(read)
        if read.status == 200:
            return {read.path: read.answer["version"]}
        return {read.path: self._absence(read.path, read)}

    def owner_shown(self, read: Entry) -> tuple[str, int] | None:
        """Return the owner, with its version, that a read of an item showed."""
        if read.status != 200 or not read.path.startswith("/items/"):
            return None
        _, _, version = read.answer_headers["etag"].strip('"').partition("-")
        return f"/users/{read.answer['owner']['id']}", int(version)

    def _listed(self, read: Entry) -> Mapping[str, int]:
        """Return what a list of items, newest first, says of those that it shows and of the one it was asked for."""
        shown = {f"/items/{item['id']}": int(item["version"]) for item in read.answer}
        last = min((item["id"] for item in read.answer), default=0)
        path, _ = self.named[read.token].written
        if path not in shown and path.startswith("/items/") and int(path.rpartition("/")[2]) > last:
            shown[path] = self._absence(path, read)
        return shown

    def _absence(self, path: str, read: Entry) -> int:
        return GONE if self.may_be_deleted(path, by=read.ended) else ABSENT


def _grouped(pairs: Iterable[tuple[str, Entry]]) -> Mapping[str, Sequence[Entry]]:
    groups: defaultdict[str, list[Entry]] = defaultdict(list)
    for key, entry in pairs:
        groups[key].append(entry)
    return groups


def by_client(entries: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield the requests of each client; it sends one after the other."""
    yield from _grouped((entry.client, entry) for entry in entries).values()
