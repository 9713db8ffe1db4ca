"""Whose read models are these? They carry the mark of the installation they were made from.

After a restore, a failover that lost commits, or a reset without cleaning, identity values may be issued again and
versions used again for other content. The gate cannot see that, so only a replay from empty is right.
"""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from pymongo.database import Database

from shared.mongo import META, Document
from shared.read_models import READ_MODELS

REMEDY: Final = "run `python api/scripts/clean_mongo.py`, then `projector replay`"

# System identifier and timeline tell apart what shares an installation id: a restored or a promoted copy.
READ_INSTALLATION: Final = """
    SELECT id, has_read_models,
           (SELECT system_identifier FROM pg_control_system()) AS system_identifier,
           (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline
    FROM installation
"""

ADOPT: Final = "UPDATE installation SET has_read_models = true WHERE NOT has_read_models"

_MARK: Final = {"_id": "installation"}


class ForeignReadModelsError(RuntimeError):
    """The read models were not made from this write model. The message says why and what to do."""


class NotMigratedError(RuntimeError):
    """The write model has no tables. The message names the command that makes them."""

    def __init__(self) -> None:
        super().__init__("the write model has no tables, run `alembic upgrade head`")


class InstallationChangedError(RuntimeError):
    """The write model was replaced while somebody was connected to it."""

    def __init__(self) -> None:
        super().__init__("the write model was replaced, its read models are looked at anew")


@dataclass(frozen=True, slots=True)
class Installation:
    """The identity of a write model."""

    id: UUID
    has_read_models: bool
    system_identifier: int
    timeline: int

    @property
    def mark(self) -> dict[str, Any]:
        """What the read models of this installation carry in `meta`."""
        return {
            "installation": str(self.id),
            "system_identifier": str(self.system_identifier),
            "timeline": self.timeline,
        }


def read_installation(connection: psycopg.Connection) -> Installation:
    """Return the identity of the write model. Raises NotMigratedError when there is none."""
    try:
        found = connection.cursor(row_factory=class_row(Installation)).execute(READ_INSTALLATION).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise NotMigratedError from error
    if found is None:
        raise NotMigratedError
    return found


def mark_read_models(connection: psycopg.Connection, database: Database[Document], installation: Installation) -> None:
    """Record on both sides that the read models are those of `installation`. The caller commits."""
    database[META].replace_one(_MARK, installation.mark, upsert=True)
    connection.execute(ADOPT)


def unmark_read_models(database: Database[Document]) -> None:
    """Take the mark away: whoever finds read models without one that should have one refuses them."""
    database[META].delete_one(_MARK)


def check_read_models(connection: psycopg.Connection, database: Database[Document]) -> Installation:
    """Return the installation if the read models are its own or, when it is new, nobody's.

    Raises ForeignReadModelsError on any doubt, NotMigratedError when there are no tables.
    """
    installation = read_installation(connection)
    mark = database[META].find_one(_MARK, {"_id": 0})
    if mark is None:
        _refuse_unless_new(database, installation)
    elif mark != installation.mark:
        differences = _differences(mark, installation)
        raise ForeignReadModelsError(f"the read models belong to another installation ({differences}): {REMEDY}")
    return installation


def adopt_read_models(connection: psycopg.Connection, database: Database[Document]) -> Installation:
    """Check the read models and mark those that are nobody's. To be called while they are held."""
    installation = check_read_models(connection, database)
    if not installation.has_read_models:
        mark_read_models(connection, database, installation)
    return installation


def _refuse_unless_new(database: Database[Document], installation: Installation) -> None:
    if installation.has_read_models:
        raise ForeignReadModelsError(f"the read models of this installation are gone: {REMEDY}")
    for read_model in READ_MODELS:
        if database[read_model.name].find_one({}, {"_id": 1}) is not None:
            raise ForeignReadModelsError(f"{read_model.name} holds documents of unknown origin: {REMEDY}")


def _differences(mark: dict[str, Any], installation: Installation) -> str:
    return ", ".join(
        f"{name}: MongoDB has {mark.get(name)}, PostgreSQL has {value}"
        for name, value in installation.mark.items()
        if mark.get(name) != value
    )
