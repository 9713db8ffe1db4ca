"""An item. It belongs to one user; its tags are rows of `item_tags`, in the order they were given."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from shared.write_model.base import Base, Versioned


class Item(Versioned, Base):
    """A row of `items`."""

    __tablename__ = "items"
    __table_args__ = (
        CheckConstraint("btrim(name) <> ''", name="item_name_is_not_blank"),
        CheckConstraint("description <> ''", name="item_description_is_absent_rather_than_empty"),
        CheckConstraint("version >= 1", name="item_version_starts_at_one"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    sell_in: Mapped[int] = mapped_column(Integer)
    quality: Mapped[int] = mapped_column(Integer)
    owner_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", name="item_owner_exists", ondelete="RESTRICT"), index=True
    )
