"""A look at both stores for those who must not hang: a scrape, the web page.

However many ask, the servers are asked at most once a second, and nobody waits longer than two.
"""

from dataclasses import dataclass

import psycopg
import pymongo
from pymongo.database import Database
from pymongo.errors import PyMongoError

from projector.settings import ProjectorSettings
from projector.status import Overview, read_overview
from projector.subscriber import describe
from shared.look import PATIENCE_SECONDS, Look
from shared.mongo import META, Document


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen. A fault is one line, or empty; there is no overview exactly if PostgreSQL has a fault."""

    overview: Overview | None
    postgres_fault: str
    mongo_fault: str


class Lookout:
    """Shared by all who look from this process; its connection is no relay's."""

    def __init__(self, settings: ProjectorSettings, name: str, database: Database[Document]) -> None:
        self._settings = settings
        self._name = f"{name} lookout"
        self._database = database
        self._postgres = Look(self._read_overview)
        self._mongo = Look(self._read_mark)

    def look(self) -> Sight:
        """Return what is to be seen. Whatever is wrong with a store is in the answer."""
        self._mongo.begin()
        overview, postgres_fault, mongo_fault = None, "", ""
        try:
            overview = self._postgres.answer()
        except TimeoutError:
            postgres_fault = f"no answer within {PATIENCE_SECONDS:.0f} s"
        except psycopg.Error as error:
            postgres_fault = describe(error)
        try:
            self._mongo.answer()
        except TimeoutError:
            mongo_fault = f"no answer within {PATIENCE_SECONDS:.0f} s"
        except PyMongoError as error:
            mongo_fault = describe(error)
        return Sight(overview, postgres_fault, mongo_fault)

    def _read_overview(self) -> Overview:
        return read_overview(self._settings, self._name, milliseconds=int(PATIENCE_SECONDS * 1000))

    def _read_mark(self) -> bool:
        """Read as the relay does: from the primary, as our user."""
        with pymongo.timeout(PATIENCE_SECONDS):
            self._database[META].find_one({}, {"_id": 1})
        return True
