"""Tags, and which items carry them. A tag is written once; its name is compared exactly."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, SmallInteger, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.write_model.base import Base


class Tag(Base):
    """A row of `tags`."""

    __tablename__ = "tags"
    __table_args__ = (
        CheckConstraint("btrim(name) <> ''", name="tag_name_is_not_blank"),
        UniqueConstraint("name", name="tag_name_is_written_once"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(Text)


class ItemTag(Base):
    """A row of `item_tags`: the tag at one position (from 1) of one item."""

    __tablename__ = "item_tags"
    __table_args__ = (UniqueConstraint("item_id", "tag_id", name="item_carries_a_tag_once"),)

    item_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("items.id", name="tagged_item_exists", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    tag_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("tags.id", name="item_tag_exists", ondelete="RESTRICT"))
