"""The number of the handshakes, in a table of its own: every command reads `installation`, dead rows and all.

`installation.handshake` stays for the version that runs. Nobody reads it any more.

Revision: 0011
Revises: 0010
Created: 2026-11-26
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "handshake",
        sa.Column("singleton", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("number", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("singleton", name=op.f("there_is_one_handshake")),
        sa.PrimaryKeyConstraint("singleton", name=op.f("pk_handshake")),
    )
    op.execute("INSERT INTO handshake DEFAULT VALUES")


def downgrade() -> None:
    op.drop_table("handshake")
