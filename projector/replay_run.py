"""What `projector replay` does: connect, take the turn, show progress, and sum up."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from pymongo.database import Database

from projector import replays, swap
from projector.connection import open_relay_connection
from projector.projections.registry import PROJECTIONS
from projector.repair import append_repairs, shown_versions
from projector.replay import Replay
from projector.settings import ProjectorSettings
from projector.shapes import tolerated_by_replays
from shared.garbage import collect_seldom
from shared.installation import check_read_models
from shared.mongo import Document, create_client, read_model_database
from shared.postgres import connect
from shared.progress import show_progress


def replay(aggregate_types: Sequence[str], rate: float | None = None, *, take_back: bool = False) -> dict[str, int]:
    """Rebuild the read models of these aggregate types, one after the other; return the rows copied of each table.

    One that was interrupted is resumed first. `take_back` allows that documents have a newer shape than this code
    makes. Raises ReplayError and ShapeTooOldError.
    """
    settings = ProjectorSettings.load_or_exit().for_maintenance()
    name = f"kata-replay {socket.gethostname()}:{os.getpid()}"
    totals: dict[str, int] = {}
    with create_client(settings, name) as client:
        database = read_model_database(client, settings)
        connection, installation = open_relay_connection(
            settings, name, database, tolerated=tolerated_by_replays(take_back=take_back)
        )
        with connection, replays.taking_turn(connection):
            collect_seldom()
            for aggregate_type in _in_order(aggregate_types, replays.at_work(connection)):
                rebuild = Replay(
                    connection,
                    installation,
                    database,
                    aggregate_type,
                    page_deadline_seconds=settings.batch_deadline_seconds,
                    rate=rate,
                    take_back=take_back,
                )
                totals[PROJECTIONS[aggregate_type].rows.table] = _run(rebuild)
    return totals


def cancel() -> str | None:
    """End the replay at work, wherever it runs; return the table whose rows it copied, None when there was none."""
    with _beside_relays() as (connection, database):
        aggregate_type = swap.cancel(connection, database)
    return PROJECTIONS[aggregate_type].rows.table if aggregate_type else None


def replay_ids(aggregate_type: str, ids: Sequence[int]) -> int:
    """Send messages that write these documents once more; return how many. The relay does the rest."""
    with _beside_relays() as (connection, database):
        check_read_models(connection, database)
        live = database[PROJECTIONS[aggregate_type].read_model.name]
        return append_repairs(connection, aggregate_type, shown_versions(live, ids))


def _in_order(aggregate_types: Sequence[str], interrupted: replays.ReplayAtWork | None) -> list[str]:
    """Return users before items, so that the looks of items find them, but what was interrupted first of all."""
    first = interrupted.aggregate_type if interrupted else None
    return sorted(aggregate_types, key=lambda known: (known != first, list(PROJECTIONS).index(known)))


def _run(rebuild: Replay) -> int:
    begun = rebuild.begin()
    with show_progress(PROJECTIONS[begun.aggregate_type].rows.table, begun.expected) as progress:
        return rebuild.run(lambda replay: progress.advance(replay.copied))


@contextmanager
def _beside_relays() -> Iterator[tuple[psycopg.Connection, Database[Document]]]:
    settings = ProjectorSettings.load_or_exit().for_maintenance()
    name = f"kata-replay {socket.gethostname()}:{os.getpid()}"
    with create_client(settings, name) as client, connect(settings, name, autocommit=True) as connection:
        yield connection, read_model_database(client, settings)
