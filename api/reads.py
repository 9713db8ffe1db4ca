"""What a query reads from: the read models, as new as the client's consistency token asks for."""

from dataclasses import dataclass

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from shared.mongo import Document
from shared.read_models import ReadModel


@dataclass(frozen=True, slots=True)
class Reads:
    """The read models and, for a request with a token, a causally consistent session at or after its moment."""

    database: AsyncDatabase[Document]
    session: AsyncClientSession | None = None

    def __getitem__(self, read_model: ReadModel) -> AsyncCollection[Document]:
        return self.database[read_model.name]
