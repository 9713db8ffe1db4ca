"""What the rows of all aggregates have in common."""

from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, Self

FIRST_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """`version` counts the commands: 1, 2, 3 ... The times are the database's."""

    id: int
    version: int
    created_at: datetime
    updated_at: datetime

    def columns(self) -> dict[str, Any]:
        """Return each column by its name."""
        return {column.name: getattr(self, column.name) for column in fields(self)}

    def changed(self, now: datetime, **columns: Any) -> Self:
        """Return the row with these columns, at its next version, even when none of them is another than before."""
        return replace(self, **columns, version=self.version + 1, updated_at=now)
