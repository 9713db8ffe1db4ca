"""The declarative base of the write model: constraint names are derived or spelled, never left to the server."""

from datetime import datetime

from sqlalchemy import Integer, MetaData, func
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

METADATA = MetaData(naming_convention=NAMING_CONVENTION)

# The database's clock is the only one in the write model.
NOW = func.clock_timestamp()

# BSON keeps milliseconds, so PostgreSQL keeps no more: a write must answer what the read after it answers.
Timestamp = TIMESTAMP(timezone=True, precision=3)


class Base(DeclarativeBase):
    """Every table of the write model and the outbox registers in one metadata, which Alembic compares."""

    metadata = METADATA


class Versioned:
    """The columns every aggregate has. `version` counts its commands: 1, 2, 3 ..."""

    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(Timestamp, server_default=NOW)
