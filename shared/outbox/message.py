"""An outbox message as code sees it."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, eq=False)
class OutboxMessage:
    """One event of one aggregate, on its way to the read models.

    `payload` and `trace_context` are JSON as PostgreSQL sent it, not decoded. `cursor` is null but for an effect that
    is being done in steps. A message is identified by `id` alone.
    """

    id: int
    aggregate_type: str
    aggregate_id: int
    aggregate_version: int
    event_type: str
    payload: bytes = field(repr=False)
    trace_context: bytes | None
    created_at: datetime
    awaited: bool
    cursor: int | None = None

    @property
    def is_repair(self) -> bool:
        """Whether it rewrites the version that the read model may show already."""
        return self.event_type.endswith(".repaired")
