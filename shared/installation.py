"""Whose read models are these? They carry the mark of the installation they were made from.

After a restore, a failover that lost commits, or a reset without cleaning, identity values may be issued again and
versions used again for other content. The gate cannot see that, so only a replay from empty is right.

Identities tell a copy that knows it is one: another cluster, another timeline, tables made anew. Files that were put
back know nothing.
So the two databases shake hands while messages are settled (projector/handshake.py): each records the same number, and
whichever went back in time has a lower one than the other.
"""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg
import pymongo
from psycopg.rows import class_row
from pymongo import ReadPreference
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from shared.history import HANDSHAKE, HISTORY, INCARNATION, SYSTEM_IDENTIFIER, TABLE, TIMELINE
from shared.mongo import META, Document
from shared.read_models import READ_MODELS

REMEDY: Final = "run `python api/scripts/clean_mongo.py`, then `projector replay`"

# System identifier, timeline and table tell apart what shares an installation id: a restored or a promoted copy.
READ_INSTALLATION: Final = f"""
    SELECT id, has_read_models, {SYSTEM_IDENTIFIER} AS system_identifier, {TIMELINE} AS timeline, {TABLE} AS table,
           {HANDSHAKE} AS handshake, {HISTORY} AS history, {INCARNATION} AS incarnation
    FROM installation
"""

ADOPT: Final = "UPDATE installation SET has_read_models = true WHERE NOT has_read_models"

# Cleaned read models begin a history of their own: what clients hold of the old one is refused from then on.
BEGIN_HISTORY: Final = "UPDATE installation SET id = gen_random_uuid()"

MARK: Final = {"_id": "installation"}
# The answer is that of a primary which a majority confirmed: a deposed one would tell an old mark.
MARK_OPTIONS: Final[dict[str, Any]] = {
    "read_preference": ReadPreference.PRIMARY,
    "read_concern": ReadConcern("linearizable"),
}
MARK_MILLISECONDS: Final = 5_000


class ForeignReadModelsError(RuntimeError):
    """The read models were not made from this write model. The message says why and what to do."""


class NotMigratedError(RuntimeError):
    """The write model has no tables. The message names the command that makes them."""

    def __init__(self) -> None:
        super().__init__("the write model has no tables, run `alembic upgrade head`")


class InstallationChangedError(RuntimeError):
    """A server was replaced while somebody was connected to it."""

    def __init__(self, what: str = "the write model") -> None:
        super().__init__(f"{what} was replaced, the read models are looked at anew")


@dataclass(frozen=True, slots=True)
class Installation:
    """The identity of a write model, and how far it has come with its read models."""

    id: UUID
    has_read_models: bool
    system_identifier: int
    timeline: int
    table: int
    handshake: int
    history: UUID
    incarnation: UUID

    @property
    def mark(self) -> dict[str, Any]:
        """What the read models of this installation carry in `meta`, beside the handshakes."""
        return {
            "installation": str(self.id),
            "system_identifier": str(self.system_identifier),
            "timeline": self.timeline,
            "table": self.table,
        }

    def is_kept_by(self, mark: Document | None, handshake: int) -> bool:
        """Return whether read models with this mark hold what they held at this handshake.

        The mark was read after the number, from this write model, which has not gone back since.
        """
        if mark is None or any(mark.get(name) != value for name, value in self.mark.items()):
            return False
        proposed: int = mark.get("proposed", 0)
        return handshake <= proposed

    def refusal(self, mark: Document | None) -> str | None:
        """Return why read models with this mark are not those of this write model as it is now, or None."""
        if mark is None:
            return "the read models of this installation are gone"
        differences = [
            f"{name}: MongoDB has {mark.get(name)}, PostgreSQL has {value}"
            for name, value in self.mark.items()
            if mark.get(name) != value
        ]
        if differences:
            return f"the read models belong to another installation ({', '.join(differences)})"
        agreed = mark["agreed"]
        if self.handshake in {agreed, mark["proposed"]}:
            return None
        went_back = "PostgreSQL" if self.handshake < agreed else "MongoDB"
        return (
            f"{went_back} was restored or has lost what it had acknowledged "
            f"(handshake: MongoDB has {agreed}, PostgreSQL has {self.handshake})"
        )


def read_mark(database: Database[Document]) -> Document | None:
    """Return the mark of the read models, as most see it. Raises PyMongo's errors."""
    with pymongo.timeout(MARK_MILLISECONDS / 1000):
        return database[META].find_one(MARK)


def read_installation(connection: psycopg.Connection, statement: str = READ_INSTALLATION) -> Installation:
    """Return the identity of the write model, which `statement` reads. Raises NotMigratedError when there is none."""
    try:
        found = connection.cursor(row_factory=class_row(Installation)).execute(statement.encode()).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise NotMigratedError from error
    if found is None:
        raise NotMigratedError
    return found


def mark_read_models(connection: psycopg.Connection, database: Database[Document], installation: Installation) -> None:
    """Record on both sides that read models without a mark are those of `installation`. The caller commits."""
    handshakes = {"agreed": installation.handshake, "proposed": installation.handshake}
    # Another lane may have been first, and hands may have been shaken since.
    database[META].update_one(MARK, {"$setOnInsert": installation.mark | handshakes}, upsert=True)
    connection.execute(ADOPT)


def unmark_read_models(database: Database[Document]) -> None:
    """Take the mark away: whoever finds read models without one that should have one refuses them."""
    database[META].delete_one(MARK)


def begin_history(connection: psycopg.Connection) -> Installation:
    """Let a new history begin, for read models that begin anew, and return the installation as it is then."""
    connection.execute(BEGIN_HISTORY)
    return read_installation(connection)


def check_read_models(connection: psycopg.Connection, database: Database[Document]) -> Installation:
    """Return the installation if the read models are its own or, when it is new, nobody's.

    Raises ForeignReadModelsError on any doubt, NotMigratedError when there are no tables.
    """
    installation = read_installation(connection)
    while True:
        mark = database.get_collection(META, **MARK_OPTIONS).find_one(MARK, max_time_ms=MARK_MILLISECONDS)
        is_new = mark is None and not installation.has_read_models
        refusal = _refusal_unless_empty(database) if is_new else installation.refusal(mark)
        if refusal is None:
            return installation
        before, installation = installation, read_installation(connection)
        # Else hands were shaken, or the read models adopted, between the two looks.
        if installation == before:
            raise ForeignReadModelsError(f"{refusal}: {REMEDY}")


def adopt_read_models(connection: psycopg.Connection, database: Database[Document]) -> Installation:
    """Check the read models and mark those that are nobody's. To be called while they are held."""
    installation = check_read_models(connection, database)
    if not installation.has_read_models:
        mark_read_models(connection, database, installation)
    return installation


def _refusal_unless_empty(database: Database[Document]) -> str | None:
    for read_model in READ_MODELS:
        if database[read_model.name].find_one({}, {"_id": 1}) is not None:
            return f"{read_model.name} holds documents of unknown origin"
    return None
