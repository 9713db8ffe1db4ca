"""An outbox message as code sees it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple


class OutboxMessage(NamedTuple):
    """One event of one aggregate, on its way to the read models.

    `payload` and `trace_context` are JSON as PostgreSQL sent it, not decoded. `cursor` is null but for an effect that
    is being done in steps. `attempts` counts those that failed or ended the process. A tuple, as a backlog has a
    hundred thousand of them: a frozen dataclass takes several times as long to make.
    """

    id: int
    aggregate_type: str
    aggregate_id: int
    aggregate_version: int
    event_type: str
    payload: bytes
    trace_context: bytes | None
    created_at: datetime
    awaited: bool
    cursor: int | None = None
    attempts: int = 0

    def __repr__(self) -> str:
        """Name the message without what its payload tells of people."""
        return f"<message {self.id}: {self.event_type} {self.aggregate_id} version {self.aggregate_version}>"

    @property
    def is_repair(self) -> bool:
        """Whether it rewrites the version that the read model may show already."""
        return self.event_type.endswith(".repaired")

    def as_columns(self) -> dict[str, Any]:
        """Return the row, its JSON as text."""
        row = self._asdict()
        return row | {name: row[name] and row[name].decode() for name in ("payload", "trace_context")}


# A row of `outbox` is an OutboxMessage.
COLUMNS: Final = ", ".join(OutboxMessage._fields)

# Some messages as rows. A statement with all of them is sent as one: sent row by row (executemany), it would leave
# behind it a transaction that the server does not end when nothing happens in it any more.
ARRAYS: Final = """
    %(id)s::bigint[], %(aggregate_type)s::text[], %(aggregate_id)s::bigint[], %(aggregate_version)s::int[],
    %(event_type)s::text[], %(payload)s::text[]::jsonb[], %(trace_context)s::text[]::jsonb[],
    %(created_at)s::timestamptz[], %(awaited)s::boolean[], %(cursor)s::bigint[], %(attempts)s::int[]
"""


def as_arrays(rows: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return rows, all with the same columns, as a list for each column."""
    found = list(rows)
    return {name: [row[name] for row in found] for name in found[0]}
