"""The lanes of the projectors: when they were last alive, and up to where MongoDB has what they settled.

Revision: 0003
Revises: 0002
Created: 2026-11-23
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIMESTAMP = postgresql.TIMESTAMP(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    op.create_table(
        "projectors",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("heartbeat", TIMESTAMP, server_default=NOW, nullable=False),
        sa.Column("operation_time", sa.BigInteger(), nullable=True),
        sa.Column("cluster_time", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "(operation_time IS NULL) = (cluster_time IS NULL)", name=op.f("projector_times_come_together")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projectors")),
        # Each batch updates its lane's row: room on the page keeps the update from touching the index.
        postgresql_with={"fillfactor": 10},
    )


def downgrade() -> None:
    op.drop_table("projectors")
