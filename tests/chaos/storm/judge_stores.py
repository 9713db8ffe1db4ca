"""What both stores hold in the end, judged by what clients were told of their commands.

A command whose outcome its client does not know may have been done or not. One that was acknowledged is there, once.
One of which it was said that nothing was changed is not. And both stores show the same.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.storm.ledger import GONE, Entry
from tests.chaos.storm.told import Told
from tests.chaos.storm.wrong import Finding, Wrong, name_of

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Stores:
    """Both sides in the end: documents by path. `unsettled` counts the messages that are left, whatever their state."""

    write_model: Documents
    read_models: Documents
    unsettled: int = 0


def lost(told: Told, stores: Stores) -> Iterator[Finding]:
    """Find acknowledged commands that a store does not have."""
    for entry in told.acknowledged:
        for side, documents in (("write model", stores.write_model), ("read models", stores.read_models)):
            if missing := _missing(told, entry, documents):
                yield Finding(Wrong.LOST, f"{name_of(entry)}: the {side} {missing}")


def _missing(told: Told, entry: Entry, documents: Documents) -> str:
    path, version = entry.written
    found = documents.get(path)
    if version == GONE:
        return f"still has {path}" if found else ""
    if found is None:
        return "" if told.may_be_deleted(path) else f"has no {path}"
    if found["version"] < version:
        return f"has {path} at version {found['version']} only"
    own = {name: value for name, value in entry.answer.items() if name in found and name != "owner"}
    if found["version"] == version and own != {name: found[name] for name in own}:
        return f"has {path} at version {version} with another content"
    return ""


def words(told: Told, write_model: Documents) -> Iterator[Finding]:
    """Find words that were appended and are gone, are there twice, or are there although nothing was changed."""
    for path, changes in told.changes.items():
        if path not in write_model:
            continue  # whether it may be gone is told by lost()
        there = Counter(str(write_model[path].get("description")).split())
        for entry in changes:
            if "description" not in (entry.body or {}):
                continue
            if entry.is_acknowledged and not there[entry.mark]:
                yield Finding(Wrong.LOST, f"{name_of(entry)}: {path} does not have its word")
            if there[entry.mark] > 1:
                yield Finding(Wrong.DUPLICATE, f"{name_of(entry)}: {path} has its word {there[entry.mark]} times")
            if there[entry.mark] and not (entry.is_acknowledged or entry.is_unknown):
                yield Finding(Wrong.UNTRUE, f"{name_of(entry)}: {path} has its word")


def done_twice(told: Told, write_model: Documents) -> Iterator[Finding]:
    """Find creations that were done more than once, or although nothing was changed; and versions made twice."""
    made = Counter(_mark(document) for document in write_model.values())
    for mark, attempts in told.by_mark.items():
        if attempts[0].method != "POST":
            continue
        answered = {entry.written[0] for entry in attempts if entry.is_acknowledged}
        if len(answered) > 1:
            yield Finding(Wrong.DUPLICATE, f"{name_of(attempts[0])}: answered as {sorted(answered)}")
        if made[mark] > 1:
            yield Finding(Wrong.DUPLICATE, f"{name_of(attempts[0])}: the write model has it {made[mark]} times")
        if made[mark] and not any(entry.is_acknowledged or entry.is_unknown for entry in attempts):
            yield Finding(Wrong.UNTRUE, f"{name_of(attempts[0])}: the write model has it")
    owners: dict[tuple[str, int], str] = {}
    for entry in told.acknowledged:
        first = owners.setdefault(entry.written, entry.mark)
        if first != entry.mark and entry.written[1] != GONE:
            path, version = entry.written
            yield Finding(Wrong.DUPLICATE, f"{name_of(entry)}: version {version} of {path} is that of {first} as well")


def miscounted(told: Told, write_model: Documents) -> Iterator[Finding]:
    """Find aggregates with fewer versions than acknowledged commands, or with more than commands that may be done."""
    for path, document in write_model.items():
        changes = told.changes.get(path, ())
        least = 1 + sum(entry.is_acknowledged for entry in changes)
        most = least + sum(entry.is_unknown for entry in changes)
        if document["version"] < least:
            yield Finding(Wrong.LOST, f"{path} has version {document['version']} after {least} acknowledged commands")
        if document["version"] > most:
            yield Finding(Wrong.DUPLICATE, f"{path} has version {document['version']} after {most} commands at most")


def drift(stores: Stores) -> Iterator[Finding]:
    """Find what the read models show differently."""
    for path in sorted(stores.write_model.keys() | stores.read_models.keys()):
        ours, theirs = stores.write_model.get(path), stores.read_models.get(path)
        if ours != theirs:
            yield Finding(Wrong.DRIFT, f"{path}: the write model has {ours}, the read models show {theirs}")
    if stores.unsettled:
        yield Finding(Wrong.DRIFT, f"{stores.unsettled} messages were never settled")


def _mark(document: Mapping[str, Any]) -> str:
    """Return the mark of the command that created it: an item's name, the first part of a user's address."""
    return str(document["email"]).partition("@")[0] if "email" in document else str(document["name"])
