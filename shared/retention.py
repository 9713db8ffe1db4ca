"""For how long PostgreSQL keeps what nobody deletes by a command; a projector deletes it some time later."""

from datetime import timedelta
from typing import Final

# A key that is older counts as new.
IDEMPOTENCY_KEYS: Final = timedelta(hours=24)

# Since they ended. The latest of a read model, and its latest that is done, are kept until there is a later one.
REPLAYS: Final = timedelta(days=90)

# The latest of a read model is kept until there is a later one.
VERIFICATIONS: Final = timedelta(days=30)
