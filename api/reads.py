"""What a query reads from: the read models, as new as the client's consistency token asks for.

A page is fetched in one reply, so nothing of it is left to fetch when a replay swaps the collection. A query that is at
work in that very moment is killed by the server, and asked once again: the collection is there, and it is complete.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from api.point_reads import PointReads
from shared.mongo import Document
from shared.read_models import ALIVE, ReadModel

# What a server says to a query whose collection was replaced: NamespaceNotFound, of an aggregation that was about to
# begin on a second collection or the same one again, and QueryPlanKilled. Both were seen; see test_swaps_under_load.py.
SWAPPED: Final = frozenset({26, 175})

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reads:
    """The read models and, for a request with a token, a causally consistent session at or after its moment."""

    database: AsyncDatabase[Document]
    points: Mapping[str, PointReads]
    session: AsyncClientSession | None = None

    def __getitem__(self, read_model: ReadModel) -> AsyncCollection[Document]:
        return self.database[read_model.name]

    async def document(self, read_model: ReadModel, document_id: int) -> Document | None:
        """Return the document that has this id and is not deleted, or None."""
        if self.session is None:
            return await self.points[read_model.name].document(document_id)
        return await self[read_model].find_one({"_id": document_id, **ALIVE}, session=self.session)


def again_if_swapped(query: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Return the query, asked once again when a replay swapped the collection under it."""

    @wraps(query)
    async def ask(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await query(*args, **kwargs)
        except OperationFailure as error:
            if error.code not in SWAPPED:
                raise
            return await query(*args, **kwargs)

    return ask
