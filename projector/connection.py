"""The connection that relays and replays work on."""

from typing import Final
from uuid import UUID

import psycopg
import pymongo
from pymongo.database import Database

from projector import outbox
from projector.settings import ProjectorSettings
from shared.installation import adopt_read_models
from shared.mongo import Document, ensure_read_models
from shared.postgres import connect

# The session's time-outs lie above the batch's deadline: the relay gives up first and says why.
SERVER_MARGIN_SECONDS: Final = 5


def open_relay_connection(
    settings: ProjectorSettings, name: str, database: Database[Document]
) -> tuple[psycopg.Connection, UUID]:
    """Return a connection fit for claiming, once MongoDB holds this installation's read models, complete.

    With it comes the installation's incarnation, which every batch compares. Raises ForeignReadModelsError when the
    read models are another's, NotMigratedError when there are no tables, and the drivers' errors when a server is
    away.
    """
    milliseconds = int((settings.batch_deadline_seconds + SERVER_MARGIN_SECONDS) * 1000)
    connection = connect(
        settings,
        name,
        statement_timeout=milliseconds,
        idle_in_transaction_session_timeout=milliseconds,
        # A plan kept from the time when the outbox was empty reads all of it for each batch of the next import.
        plan_cache_mode="force_custom_plan",
    )
    try:
        outbox.prepare(connection)
        with connection.transaction():
            outbox.hold_read_models(connection)
            # A silent MongoDB must not hold the lock; making an index may take as long as it takes.
            with pymongo.timeout(settings.connect_timeout_seconds):
                installation = adopt_read_models(connection, database)
            ensure_read_models(database)
            outbox.forget_lanes(connection)
    except BaseException:
        connection.close()
        raise
    return connection, installation.incarnation
