"""The declarative base of the write model: constraint names are derived or spelled, never left to the server."""

from datetime import datetime
from typing import Any

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

    def columns(self) -> dict[str, Any]:
        """Return the row, each column by its name; what only the server knows yet is None."""
        return {name: getattr(self, name) for name in self.__table__.columns.keys()}  # noqa: SIM118 - no dict: it holds columns


class Versioned:
    """The columns every aggregate has. `version` counts its commands: 1, 2, 3 ..."""

    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Timestamp, server_default=NOW)
    updated_at: Mapped[datetime] = mapped_column(Timestamp, server_default=NOW)

    def touch(self, now: datetime) -> None:
        """Make this change a version of its own, even when no other column changes.

        `now` is the database's time.
        """
        self.version += 1
        self.updated_at = now
