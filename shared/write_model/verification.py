"""What verify found, run by run: an operator's, or a projector's sample. Kept for a while, to be seen from anywhere."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Identity, Index, Table, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from shared.write_model.base import METADATA, NOW

VERIFICATIONS = Table(
    "verifications",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("aggregate_type", Text, nullable=False),
    # `whole`: every row and document; `sample`: some of them.
    Column("kind", Text, nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("missing", BigInteger, nullable=False),
    Column("stale", BigInteger, nullable=False),
    Column("orphaned", BigInteger, nullable=False),
    Column("different", BigInteger, nullable=False),
    Column("ended_at", TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
    CheckConstraint("kind IN ('whole', 'sample')", name="verification_kind_is_known"),
    Index(None, "ended_at"),
)
