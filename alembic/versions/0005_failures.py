"""Attempts of messages, and messages by aggregate; how a lane ended, what it settled, how long its batches take.

Revision: 0005
Revises: 0004
Created: 2026-11-24
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIMESTAMP = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.add_column("outbox", sa.Column("attempts", sa.Integer(), server_default="0", nullable=False))
    op.create_index(
        "ix_outbox_failures_next_attempt_at",
        "outbox_failures",
        ["next_attempt_at"],
        postgresql_where=sa.text("state = 'retrying'"),
    )
    op.create_index("ix_outbox_aggregate_id", "outbox", ["aggregate_id"])
    op.add_column("projectors", sa.Column("ended_at", TIMESTAMP, nullable=True))
    op.add_column("projectors", sa.Column("settled", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("projectors", sa.Column("batch_seconds", sa.Double(), nullable=True))
    op.add_column("projectors", sa.Column("usual_batch_seconds", sa.Double(), nullable=True))


def downgrade() -> None:
    for column in ("usual_batch_seconds", "batch_seconds", "settled", "ended_at"):
        op.drop_column("projectors", column)
    op.drop_index("ix_outbox_aggregate_id", "outbox")
    op.drop_index("ix_outbox_failures_next_attempt_at", "outbox_failures")
    op.drop_column("outbox", "attempts")
