"""The replays of read models: one row each, from registration to its end. At most one is at work."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Identity, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from shared.write_model.base import METADATA, NOW

REPLAYS = Table(
    "replays",
    METADATA,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("aggregate_type", Text, nullable=False),
    # The collection that is built beside the live one, and its UUID, which a rename keeps.
    Column("shadow", Text, nullable=False),
    Column("shadow_uuid", Uuid, nullable=False),
    # The shape of the documents it writes; and whether they had a newer one before, when a deploy is undone. A
    # projector that makes another shape must not relay beside it, see projector/shapes.py.
    Column("shape", Integer, nullable=False),
    Column("takes_back", Boolean, nullable=False, server_default=text("false")),
    Column("state", Text, nullable=False),
    # How far the copy is: the last id it has reached, how many rows it has read, and how many there were at the start.
    Column("cursor", BigInteger, nullable=False),
    Column("copied", BigInteger, nullable=False),
    Column("expected", BigInteger, nullable=False),
    Column("error", Text),
    Column("started_at", TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
    Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=NOW),
    Column("ended_at", TIMESTAMP(timezone=True)),
    CheckConstraint(
        "state IN ('copying', 'verifying', 'swapping', 'done', 'failed', 'cancelled')", name="replay_state_is_known"
    ),
    CheckConstraint(
        "(ended_at IS NOT NULL) = (state IN ('done', 'failed', 'cancelled'))", name="replay_has_an_end_once_it_ended"
    ),
    CheckConstraint("shape >= 1", name="replay_shape_starts_at_one"),
    # An index over one value: at most one row of those it holds.
    Index("one_replay_is_at_work", text("(true)"), unique=True, postgresql_where=text("ended_at IS NULL")),
)
