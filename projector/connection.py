"""The connection that relays and replays work on."""

from dataclasses import replace
from typing import Final
from uuid import UUID

import psycopg
import pymongo
from pymongo.database import Database

from projector import lanes, outbox, replays
from projector.projections.registry import PROJECTIONS
from projector.settings import ProjectorSettings
from projector.shapes import ShapeError
from projector.swap import finish_swap
from shared.installation import adopt_read_models
from shared.mongo import Document, accept_documents, ensure_read_models
from shared.postgres import VALIDATORS_LOCK, connect

# The session's time-outs lie above the batch's deadline: the relay gives up first and says why.
SERVER_MARGIN_SECONDS: Final = 5


def open_relay_connection(
    settings: ProjectorSettings,
    name: str,
    database: Database[Document],
    *,
    tolerated: tuple[type[ShapeError], ...] = (),
) -> tuple[psycopg.Connection, UUID]:
    """Return a connection fit for claiming, once MongoDB holds this installation's read models, complete.

    It is in autocommit mode. With it comes the installation's incarnation, which every batch compares. Raises
    ForeignReadModelsError when the read models are another's, NotMigratedError when there are no tables, ShapeError
    when this code must not write documents, unless the reason is `tolerated`, and the drivers' errors when a server is
    away.
    """
    milliseconds = int((settings.batch_deadline_seconds + SERVER_MARGIN_SECONDS) * 1000)
    connection = connect(
        settings,
        name,
        autocommit=True,
        statement_timeout=milliseconds,
        idle_in_transaction_session_timeout=milliseconds,
        # A plan kept from the time when the outbox was empty reads all of it for each batch of the next import.
        plan_cache_mode="force_custom_plan",
    )
    try:
        outbox.prepare(connection)
        finish_swap(connection, database)
        with connection.transaction():
            held = replays.hold_read_models(connection, tolerated=tolerated)
            # A silent MongoDB must not hold the lock; making an index may take as long as it takes.
            with pymongo.timeout(settings.connect_timeout_seconds):
                installation = adopt_read_models(connection, database)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (VALIDATORS_LOCK,))
            ensure_read_models(database)
            if held.shadow:
                # What this code writes it writes there, too, whichever version began the replay.
                read_model = PROJECTIONS[held.shadow.aggregate_type].read_model
                accept_documents(database, replace(read_model, name=held.shadow.name))
            lanes.forget(connection)
    except BaseException:
        connection.close()
        raise
    return connection, installation.incarnation
