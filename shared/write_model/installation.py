"""Which installation this is: one row with a random id, made by the migration that creates the table.

Read models carry the same id. So a database that was reset or restored is told from the one they were made from.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Uuid, false, func, literal_column, select, true
from sqlalchemy.orm import Mapped, mapped_column

from shared.write_model.base import Base

# Expressions beside `FROM installation`. The timeline is the one that is being written: that of the last checkpoint
# remains the old one for minutes after a promotion. A standby refuses to tell.
SYSTEM_IDENTIFIER: Final = "(SELECT system_identifier FROM pg_control_system())"
TIMELINE: Final = "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"

# One line of commits: a restored or promoted copy, and whatever was cleaned, begins another. Message ids mean
# something within one history only.
HISTORY: Final = f"md5(concat_ws('/', installation.id, {SYSTEM_IDENTIFIER}, {TIMELINE}))::uuid"

# The same while one server process serves it: files can be put back in time only under a server that is down.
INCARNATION: Final = f"md5(concat_ws('/', {HISTORY}, extract(epoch FROM pg_postmaster_start_time())))::uuid"


class Installation(Base):
    """The one row of `installation`."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("singleton", name="there_is_one_installation"),)

    singleton: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=true())
    id: Mapped[UUID] = mapped_column(Uuid, server_default=func.gen_random_uuid())
    # Set once MongoDB holds read models of this installation: from then on their absence is a loss, not a beginning.
    has_read_models: Mapped[bool] = mapped_column(Boolean, server_default=false())
    # How often the write model and the read models have shaken hands, see shared/installation.py.
    handshake: Mapped[int] = mapped_column(BigInteger, server_default="0")


# For statements that SQLAlchemy makes.
CURRENT_HISTORY: Final = select(literal_column(HISTORY, Uuid)).select_from(Installation).scalar_subquery()
CURRENT_INCARNATION: Final = select(literal_column(INCARNATION, Uuid)).select_from(Installation).scalar_subquery()
