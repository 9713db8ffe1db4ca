"""A user. The e-mail address identifies it to people and is kept normalised (the domain in lower case)."""

from sqlalchemy import BigInteger, CheckConstraint, Identity, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.write_model.base import Base, Versioned


class User(Versioned, Base):
    """A row of `users`."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("btrim(name) <> ''", name="user_name_is_not_blank"),
        CheckConstraint("version >= 1", name="user_version_starts_at_one"),
        UniqueConstraint("email", name="user_email_belongs_to_one_user"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    email: Mapped[str] = mapped_column(Text)
