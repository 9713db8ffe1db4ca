"""The write model: what PostgreSQL holds about users, items and tags. It is the source of truth."""

from shared.write_model.base import METADATA, Base
from shared.write_model.idempotency_key import IDEMPOTENCY_KEYS
from shared.write_model.installation import Installation
from shared.write_model.item import Item
from shared.write_model.tag import ItemTag, Tag
from shared.write_model.user import User

__all__ = ["IDEMPOTENCY_KEYS", "METADATA", "Base", "Installation", "Item", "ItemTag", "Tag", "User"]
