"""How often this write model and its read models have shaken hands: neither can go back in time unnoticed.

Revision: 0009
Revises: 0008
Created: 2026-11-24
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("installation", sa.Column("handshake", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("installation", "handshake")
