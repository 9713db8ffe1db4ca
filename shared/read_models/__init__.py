"""The read models: what MongoDB holds, declared as data. No driver is imported here."""

from shared.read_models.item import ITEMS_READ, ItemDocument, OwnerDocument
from shared.read_models.read_model import ALIVE, Index, ReadModel, Tombstone, shapes_of
from shared.read_models.user import USERS_READ, UserDocument

# In the order in which a batch writes them: a user is stored before the items that look at it.
READ_MODELS = (USERS_READ, ITEMS_READ)

__all__ = [
    "ALIVE",
    "ITEMS_READ",
    "READ_MODELS",
    "USERS_READ",
    "Index",
    "ItemDocument",
    "OwnerDocument",
    "ReadModel",
    "Tombstone",
    "UserDocument",
    "shapes_of",
]
