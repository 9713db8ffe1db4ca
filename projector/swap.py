"""The swap: the shadow takes the live collection's place, and nothing is lost whoever dies in between.

While alone with the read models: `swapping` is committed, then the rename is made, then `done` is committed. Until then
every batch has written the shadow. A batch that finds `swapping` under the lock knows that its owner is gone, for the
owner is alone until `done`: it writes nothing, and the swap is finished first. A rename is never repeated: the UUID
says whether it was done.
"""

from typing import Final, NoReturn

import psycopg
import pymongo
from pymongo.database import Database

from projector import replays
from projector.projections.registry import PROJECTIONS
from projector.shadow import put_in_place
from shared.mongo import Document
from shared.read_models_lock import alone_with_read_models
from shared.shadows import cancel_replay, drop_shadows

# MongoDB may be silent, and nobody writes meanwhile.
SWAP_SECONDS: Final = 10


def swap(connection: psycopg.Connection, database: Database[Document], replay: replays.ReplayAtWork) -> None:
    """Put the shadow of a verified replay in place. Raises ReplayCancelledError when it was cancelled meanwhile."""
    with alone_with_read_models(connection):
        replays.move(connection, replay.id, "swapping")
        _finish(connection, database, replay)


def finish_swap(connection: psycopg.Connection, database: Database[Document]) -> None:
    """Finish the swap that somebody left, if there is one. `connection` is in autocommit mode.

    Raises psycopg.errors.LockNotAvailable when the read models are in use all the time.
    """
    left = replays.at_work(connection)
    if left is None or left.state != "swapping":
        return
    with alone_with_read_models(connection):
        # Many may have seen it; the first one to be alone has done it.
        left = replays.at_work(connection)
        if left and left.state == "swapping":
            _finish(connection, database, left)


def give_up(connection: psycopg.Connection, database: Database[Document], replay_id: int, error: str) -> None:
    """End a replay that cannot go on and drop its shadow: the live collection stays as it is."""
    with alone_with_read_models(connection):
        replays.move(connection, replay_id, "failed", error)
        drop_shadows(database)


def fail(connection: psycopg.Connection, database: Database[Document], replay_id: int, error: str) -> NoReturn:
    """Give the replay at work up, and raise ReplayError."""
    give_up(connection, database, replay_id, error)
    raise replays.ReplayError(f"the replay failed, the read model is as it was: {error}")


def cancel(connection: psycopg.Connection, database: Database[Document]) -> str | None:
    """End the replay at work and leave nothing of it behind; return its aggregate type, None when there is none.

    A swap that somebody left cannot be taken back: its rename may be on its way. It is finished instead.
    """
    with alone_with_read_models(connection):
        found = replays.at_work(connection)
        if found and found.state == "swapping":
            _finish(connection, database, found)
        return cancel_replay(connection, database)


def _finish(connection: psycopg.Connection, database: Database[Document], replay: replays.ReplayAtWork) -> None:
    live = PROJECTIONS[replay.aggregate_type].read_model.name
    with pymongo.timeout(SWAP_SECONDS):
        is_live = put_in_place(database, replay.shadow, replay.shadow_uuid, live)
    if is_live:
        replays.move(connection, replay.id, "done")
    else:
        # Nobody has written past the live collection, so nothing but the replay is lost.
        replays.move(connection, replay.id, "failed", f"{replay.shadow} is gone: somebody dropped it")
