"""Drift: how a document differs from what its row says.

`Shown` is a document or a tombstone, or the part of it that is compared; of a row: what the read model should show.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["missing", "stale", "orphaned", "different"]
KINDS: Final[tuple[Kind, ...]] = ("missing", "stale", "orphaned", "different")

Shown = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference: the versions found, None where there is nothing, and the fields that differ.

    `owner_ahead` is the owner that an item embeds, id and version, if no user has that version yet. `dead_letter` is
    the message that would have prevented it.
    """

    kind: Kind
    aggregate_type: str
    aggregate_id: int
    row_version: int | None
    document_version: int | None
    fields: tuple[str, ...] = ()
    owner_ahead: tuple[int, int] | None = None
    dead_letter: int | None = None

    def __str__(self) -> str:
        where = f" in {', '.join(self.fields)}" if self.fields else ""
        reason = f", for message {self.dead_letter} failed: `projector dead-letters show {self.dead_letter}`"
        return (
            f"{self.aggregate_type} {self.aggregate_id} is {self.kind}{where}: row version {self.row_version}, "
            f"document version {self.document_version}{reason if self.dead_letter else ''}"
        )


def drift_of(aggregate_type: str, aggregate_id: int, row: Shown | None, stored: Shown | None) -> Drift | None:
    """Return how the document `stored` differs from what `row` says it should be, or None when it shows the row."""
    kind = kind_of(row, stored)
    if kind is None:
        return None
    return Drift(
        kind,
        aggregate_type,
        aggregate_id,
        row["version"] if row else None,
        stored.get("version") if stored else None,
        _fields(row, stored) if kind == "different" and row and stored else (),
        _owner_ahead(row, stored),
    )


def kind_of(row: Shown | None, stored: Shown | None) -> Kind | None:
    """Return how the two differ, or None when the document shows the row."""
    is_tombstone = stored is not None and "deleted_at" in stored
    if row is None:
        return None if stored is None or is_tombstone else "orphaned"
    if stored is None or (is_tombstone and stored["version"] <= row["version"]):
        return "missing"
    if stored.get("version", 0) < row["version"]:
        return "stale"
    return "different" if stored != row else None


def _fields(row: Shown, stored: Shown) -> tuple[str, ...]:
    if "deleted_at" in stored:
        return ("deleted_at",)
    return tuple(sorted(name for name in row.keys() | stored.keys() if row.get(name) != stored.get(name)))


def _owner_ahead(row: Shown | None, stored: Shown | None) -> tuple[int, int] | None:
    if not row or not stored or "owner" not in row or "owner" not in stored:
        return None
    expected, shown = row["owner"], stored["owner"]
    is_ahead = shown["id"] == expected["id"] and shown["version"] > expected["version"]
    return (shown["id"], shown["version"]) if is_ahead else None
