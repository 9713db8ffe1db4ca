"""Which installation this is: one row with a random id, made by the migration that creates the table.

Read models carry the same id. So a database that was reset or restored is told from the one they were made from.
"""

from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Uuid, false, func, true
from sqlalchemy.orm import Mapped, mapped_column

from shared.write_model.base import Base


class Installation(Base):
    """The one row of `installation`."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("singleton", name="there_is_one_installation"),)

    singleton: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=true())
    id: Mapped[UUID] = mapped_column(Uuid, server_default=func.gen_random_uuid())
    # Set once MongoDB holds read models of this installation: from then on their absence is a loss, not a beginning.
    has_read_models: Mapped[bool] = mapped_column(Boolean, server_default=false())
    # Nobody uses it any more. A version that comes after the one that did may drop it.
    handshake: Mapped[int] = mapped_column(BigInteger, server_default="0")


class HandshakeNumber(Base):
    """The one row of `handshake`: how often the write model and the read models have shaken hands.

    It is written several times a second. Every command and every batch reads `installation`, which is not: as long as a
    transaction keeps the dead rows, they would be slower and slower.
    """

    __tablename__ = "handshake"
    __table_args__ = (CheckConstraint("singleton", name="there_is_one_handshake"),)

    singleton: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=true())
    number: Mapped[int] = mapped_column(BigInteger, server_default="0")
