"""The outbox's tables. One table per state: waiting in `outbox`, failed in `outbox_failures`, settled in neither."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from shared.write_model.base import METADATA

# Settled messages leave the table, so it stays small however long the history is.
OUTBOX = Table(
    "outbox",
    METADATA,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("aggregate_type", Text, nullable=False),
    Column("aggregate_id", BigInteger, nullable=False),
    Column("aggregate_version", Integer, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("trace_context", JSONB),
    Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("awaited", Boolean, nullable=False, server_default=false()),
    # Where an effect that is done in steps stands: the last item id it has reached.
    Column("cursor", BigInteger),
    # How often it was begun and failed, or ended the process.
    Column("attempts", Integer, nullable=False, server_default="0"),
    CheckConstraint("aggregate_version >= 1", name="outbox_message_has_a_version"),
    CheckConstraint("event_type LIKE aggregate_type || '.%'", name="outbox_event_belongs_to_its_aggregate"),
    Index("ix_outbox_awaited", "id", postgresql_where=text("awaited")),
    # Is anything of an aggregate on its way? By the id alone: the type in front of it makes appending in bulk slower.
    Index("ix_outbox_aggregate_id", "aggregate_id"),
)

OUTBOX_FAILURES = Table(
    "outbox_failures",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("aggregate_type", Text, nullable=False),
    Column("aggregate_id", BigInteger, nullable=False),
    Column("aggregate_version", Integer, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("trace_context", JSONB),
    Column("created_at", TIMESTAMP(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("failed_at", TIMESTAMP(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("next_attempt_at", TIMESTAMP(timezone=True)),
    CheckConstraint("state IN ('retrying', 'dead', 'discarded')", name="outbox_failure_state_is_known"),
    CheckConstraint(
        "(state = 'retrying') = (next_attempt_at IS NOT NULL)",
        name="outbox_failure_has_a_next_attempt_only_while_retrying",
    ),
    CheckConstraint("attempts >= 1", name="outbox_failure_was_attempted"),
    Index("ix_outbox_failures_next_attempt_at", "next_attempt_at", postgresql_where=text("state = 'retrying'")),
    Index("ix_outbox_failures_aggregate", "aggregate_type", "aggregate_id"),
)

# A row per lane of a projector. The times say up to where MongoDB has what the lane settled: `operation_time` is a BSON
# timestamp as one number (seconds << 32 | increment), `cluster_time` the BSON of MongoDB's signed $clusterTime.
PROJECTORS = Table(
    "projectors",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("heartbeat", TIMESTAMP(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("operation_time", BigInteger),
    Column("cluster_time", LargeBinary),
    # When it ended cleanly. A lane that is gone without it may have been ended by a message.
    Column("ended_at", TIMESTAMP(timezone=True)),
    # How many messages it has settled; the seconds of its last batch, and of its batches on average lately.
    Column("settled", BigInteger, nullable=False, server_default="0"),
    Column("batch_seconds", Double),
    Column("usual_batch_seconds", Double),
    CheckConstraint("(operation_time IS NULL) = (cluster_time IS NULL)", name="projector_times_come_together"),
)
