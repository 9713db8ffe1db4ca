"""Shadows: the collections that replays build beside the live ones. No name is ever used twice.

Only a registered replay's shadow is anybody's business. Any other was left by a process that died in between, or made
anew by MongoDB for a write that arrived late, when the shadow it was meant for was gone.
"""

from typing import Final
from uuid import uuid4

import psycopg
from pymongo.database import Database

from shared.mongo import Document
from shared.read_models import READ_MODELS

MARK: Final = "_shadow_"

# By whoever is alone with the read models. Committed before the shadow is dropped: nobody writes to it from then on.
CANCEL: Final = """
    UPDATE replays SET state = 'cancelled', updated_at = clock_timestamp(), ended_at = clock_timestamp()
    WHERE ended_at IS NULL RETURNING aggregate_type
"""


def new_shadow_name(live: str) -> str:
    """Return a name that no shadow of this read model ever had."""
    return f"{live}{MARK}{uuid4().hex}"


def cancel_replay(connection: psycopg.Connection, database: Database[Document]) -> str | None:
    """End the replay at work and drop every shadow. To be called while alone with the read models.

    Returns the aggregate type that was being replayed, None when none was.
    """
    cancelled = connection.execute(CANCEL).fetchone()
    drop_shadows(database)
    return str(cancelled[0]) if cancelled else None


def drop_shadows(database: Database[Document], *, but: str | None = None) -> None:
    """Drop every shadow there is, but not the one of this name."""
    for name in shadow_names(database):
        if name != but:
            database.drop_collection(name)


def shadow_names(database: Database[Document]) -> list[str]:
    """Return the names of the shadows there are."""
    marks = tuple(f"{read_model.name}{MARK}" for read_model in READ_MODELS)
    return [name for name in database.list_collection_names() if name.startswith(marks)]
