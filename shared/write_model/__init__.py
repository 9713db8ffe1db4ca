"""The write model: what PostgreSQL holds about users, items and tags, the source of truth; and what operators did."""

from shared.write_model.base import METADATA, Base
from shared.write_model.idempotency_key import IDEMPOTENCY_KEYS
from shared.write_model.installation import Installation
from shared.write_model.item import Item
from shared.write_model.replay import REPLAYS
from shared.write_model.tag import ItemTag, Tag
from shared.write_model.user import User
from shared.write_model.verification import VERIFICATIONS

__all__ = [
    "IDEMPOTENCY_KEYS",
    "METADATA",
    "REPLAYS",
    "VERIFICATIONS",
    "Base",
    "Installation",
    "Item",
    "ItemTag",
    "Tag",
    "User",
]
