"""Whether a replay takes documents back to an older shape: projectors of the newer one wait then.

Revision: 0010
Revises: 0009
Created: 2026-11-26
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replays", sa.Column("takes_back", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    op.drop_column("replays", "takes_back")
