"""The transactional outbox: messages waiting, and messages that failed.

Revision: 0002
Revises: 0001
Created: 2026-11-23
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

TIMESTAMP = postgresql.TIMESTAMP(timezone=True)
NOW = sa.text("clock_timestamp()")

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("aggregate_type", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.BigInteger(), nullable=False),
        sa.Column("aggregate_version", sa.Integer(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("trace_context", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", TIMESTAMP, server_default=NOW, nullable=False),
        sa.Column("awaited", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("aggregate_version >= 1", name=op.f("outbox_message_has_a_version")),
        sa.CheckConstraint(
            "event_type LIKE aggregate_type || '.%'", name=op.f("outbox_event_belongs_to_its_aggregate")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_awaited", "outbox", ["id"], postgresql_where=sa.text("awaited"))
    op.create_table(
        "outbox_failures",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("aggregate_type", sa.Text(), nullable=False),
        sa.Column("aggregate_id", sa.BigInteger(), nullable=False),
        sa.Column("aggregate_version", sa.Integer(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("trace_context", postgresql.JSONB(), nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("failed_at", TIMESTAMP, server_default=NOW, nullable=False),
        sa.Column("next_attempt_at", TIMESTAMP, nullable=True),
        sa.CheckConstraint("state IN ('retrying', 'dead', 'discarded')", name=op.f("outbox_failure_state_is_known")),
        sa.CheckConstraint(
            "(state = 'retrying') = (next_attempt_at IS NOT NULL)",
            name=op.f("outbox_failure_has_a_next_attempt_only_while_retrying"),
        ),
        sa.CheckConstraint("attempts >= 1", name=op.f("outbox_failure_was_attempted")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_failures")),
    )
    op.create_index("ix_outbox_failures_aggregate", "outbox_failures", ["aggregate_type", "aggregate_id"])


def downgrade() -> None:
    op.drop_table("outbox_failures")
    op.drop_table("outbox")
