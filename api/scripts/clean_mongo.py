"""Empty the read models: `python api/scripts/clean_mongo.py`. The one writer of MongoDB beside the projector.

It works under the exclusive lock, so no batch is in flight meanwhile. Aggregates that were deleted while messages of
theirs are still on their way get a tombstone: a late upsert must not bring them back. Projectors may keep running.
"""

import sys
from datetime import UTC, datetime
from typing import Final

import psycopg
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from shared.installation import (
    ForeignReadModelsError,
    Installation,
    NotMigratedError,
    begin_history,
    check_read_models,
    mark_read_models,
    read_installation,
    unmark_read_models,
)
from shared.mongo import REFUSALS, Document, create_client, ensure_read_models, read_model_database
from shared.outbox.departed import departed
from shared.postgres import connect
from shared.read_models import READ_MODELS, ReadModel, Tombstone
from shared.read_models_lock import ReadModelsInUseError, alone_with_read_models
from shared.settings import USAGE_ERROR, Settings
from shared.shadows import cancel_replay, drop_shadows

UNREACHABLE: Final = 3
NAME: Final = "kata-clean-mongo"


def clean(connection: psycopg.Connection, database: Database[Document]) -> dict[str, int]:
    """Empty the read models and return how many documents each held. `connection` is in autocommit mode.

    A replay that is at work is cancelled.
    """
    with alone_with_read_models(connection):
        installation = _installation(connection)
        # From here to the new mark a projector finds no mark and refuses: half-empty read models are not served on.
        unmark_read_models(database)
        if installation:
            cancel_replay(connection, database)
        else:
            drop_shadows(database)
        counts = {read_model.name: _empty(connection, database, read_model, installation) for read_model in READ_MODELS}
        if installation:
            # What MongoDB acknowledged before says nothing of what it will hold.
            connection.execute("UPDATE projectors SET operation_time = NULL, cluster_time = NULL")
            _mark(connection, database, begin_history(connection))
    return counts


@retry(retry=retry_if_exception_type(ForeignReadModelsError), stop=stop_after_attempt(3), reraise=True)
def _mark(connection: psycopg.Connection, database: Database[Document], installation: Installation) -> None:
    """Mark the read models as those of the new history.

    Of a run that broke off in its last step the mark may have been on its way until now, and be first.
    """
    unmark_read_models(database)
    mark_read_models(connection, database, installation)
    check_read_models(connection, database)


def _installation(connection: psycopg.Connection) -> Installation | None:
    try:
        return read_installation(connection)
    except NotMigratedError:  # after `alembic downgrade base`: nobody's read models, and no messages
        return None


def _empty(
    connection: psycopg.Connection,
    database: Database[Document],
    read_model: ReadModel,
    installation: Installation | None,
) -> int:
    count = database[read_model.name].count_documents({"deleted_at": None})
    database.drop_collection(read_model.name)
    ensure_read_models(database, (read_model,))
    now = datetime.now(UTC)
    tombstones = [
        dict(Tombstone(_id=aggregate_id, version=version, deleted_at=now))
        for aggregate_id, version in (departed(connection, read_model) if installation else ())
    ]
    if tombstones:
        database[read_model.name].insert_many(tombstones)
    return count


def main() -> None:
    """Run the script and say what was done."""
    settings = Settings.load_or_exit().for_maintenance()
    try:
        with (
            connect(settings, NAME, autocommit=True) as connection,
            create_client(settings, NAME) as client,
        ):
            counts = clean(connection, read_model_database(client, settings))
    except (ReadModelsInUseError, ForeignReadModelsError) as error:
        sys.exit(str(error))
    except psycopg.errors.InsufficientPrivilege as error:
        sys.stderr.write(f"PostgreSQL refused, check MAINTENANCE_DATABASE_URL or DATABASE_URL: {_one_line(error)}\n")
        sys.exit(USAGE_ERROR)
    except (psycopg.OperationalError, PyMongoError) as error:
        if isinstance(error, OperationFailure) and error.code in REFUSALS:
            sys.stderr.write(f"MongoDB refused, check MAINTENANCE_MONGO_URL or MONGO_URL: {_one_line(error)}\n")
            sys.exit(USAGE_ERROR)
        store = "PostgreSQL" if isinstance(error, psycopg.Error) else "MongoDB"
        sys.stderr.write(f"{store} could not be reached: {_one_line(error)}\n")
        sys.exit(UNREACHABLE)
    emptied = ", ".join(f"{name} ({count} documents)" for name, count in counts.items())
    sys.stdout.write(f"Emptied {emptied}. To get them back from PostgreSQL: projector replay\n")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).partition(", full error:")[0].split())[:300]


if __name__ == "__main__":
    main()
