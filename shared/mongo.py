"""Connections to MongoDB, and the read models' collections with their indexes and validators.

Writes are acknowledged by a majority that has them in its journal: the projector forgets a message after that, so
anything less could lose it in a failover. Reads see only what a majority holds.
"""

from collections.abc import Mapping
from typing import Any, Final

from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, IndexModel, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shared.read_models import READ_MODELS, ReadModel
from shared.settings import Settings

Document = dict[str, Any]

DURABLE: Final = WriteConcern(w="majority", j=True)
MAJORITY: Final = ReadConcern("majority")
CODEC: Final[CodecOptions[Document]] = CodecOptions(tz_aware=True)
NAIVE: Final[CodecOptions[Document]] = CodecOptions(tz_aware=False)

META: Final = "meta"

# A server's codes for a user who may not do this, or is not who he says.
REFUSALS: Final = frozenset({13, 18})  # Unauthorized, AuthenticationFailed

NAMESPACE_NOT_FOUND: Final = 26
NAMESPACE_EXISTS: Final = 48


def client_arguments(settings: Settings, application_name: str) -> dict[str, Any]:
    """Return the client options that every process shares. A silent server is given up after the connect time-out."""
    milliseconds = settings.connect_timeout_seconds * 1000
    return {
        "appname": application_name,
        "serverSelectionTimeoutMS": milliseconds,
        "connectTimeoutMS": milliseconds,
        "tz_aware": True,
        # The gate makes a repeated write harmless, and the relay repeats the batch itself.
        "retryWrites": False,
    }


def create_client(settings: Settings, application_name: str, **options: Any) -> MongoClient[Document]:
    """Return a client. Nothing is opened until it is used."""
    return MongoClient(settings.mongo_url.get_secret_value(), **client_arguments(settings, application_name), **options)


def create_async_client(settings: Settings, application_name: str, **options: Any) -> AsyncMongoClient[Document]:
    """Return an asynchronous client. Nothing is opened until it is used."""
    return AsyncMongoClient(
        settings.mongo_url.get_secret_value(), **client_arguments(settings, application_name), **options
    )


def read_model_database(client: MongoClient[Document], settings: Settings) -> Database[Document]:
    """Return the database of the read models, with durable writes and majority reads."""
    return client.get_database(settings.mongo_database, CODEC, write_concern=DURABLE, read_concern=MAJORITY)


def async_read_model_database(client: AsyncMongoClient[Document], settings: Settings) -> AsyncDatabase[Document]:
    """Return the database of the read models, with majority reads.

    Times come without a zone and are in UTC: they are spelled and nothing else, and to put the zone to the times of a
    page takes as long as all the rest of decoding it.
    """
    return client.get_database(settings.mongo_database, NAIVE, write_concern=DURABLE, read_concern=MAJORITY)


def primary_process(client: MongoClient[Any]) -> ObjectId | None:
    """Return which process of mongod is the primary as far as the driver knows: whatever was restored runs in another.

    The driver is told of it before it uses a server that was started anew; it costs no round trip to ask.
    """
    for server in client.topology_description.server_descriptions().values():
        if server.is_writable and server.topology_version:
            process: ObjectId = server.topology_version["processId"]
            return process
    return None


def ensure_read_models(database: Database[Document], read_models: tuple[ReadModel, ...] = READ_MODELS) -> None:
    """Create what is missing of collections and indexes and set the validators. Doing it again changes nothing.

    Documents of other shapes, which projectors of other versions write, go on being let through.
    """
    for read_model in read_models:
        try:
            database.create_collection(read_model.name, validator=read_model.validator, check_exists=False)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
            accept_documents(database, read_model)
        for index in index_models(read_model):
            database[read_model.name].create_indexes([index])


def index_models(read_model: ReadModel) -> list[IndexModel]:
    """Return the read model's indexes as the driver takes them."""
    return [IndexModel(list(index.keys), name=index.name, **index.options) for index in read_model.indexes]


def accept_documents(database: Database[Document], read_model: ReadModel) -> None:
    """Let a collection take the documents of this read model, beside what it takes; unless there is none."""
    current: Mapping[str, Any] = database[read_model.name].options().get("validator", {})
    wanted = read_model.validator_beside(current)
    if current != wanted:
        database.command("collMod", read_model.name, validator=wanted, allowable_errors=[NAMESPACE_NOT_FOUND])
