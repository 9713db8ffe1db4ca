"""Replay: rebuild a read model from the write model beside running projectors and clients.

The documents go through the same projections, the same gate and the same looks as those of the relay, into a shadow.
From the moment it is registered every batch writes it as well. So nothing has to be caught up: what was settled before,
the rows show; what is settled later, its batch writes. When the shadow shows what the rows say, it takes the place of
the live collection. Everything is recorded page by page, so a replay that was interrupted goes on where it was.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final
from uuid import UUID

import psycopg
from pymongo.database import Database

from projector import replays, rows
from projector.copying import Copying
from projector.drift import Drift
from projector.projections.registry import PROJECTIONS, Projection
from projector.replays import ReplayAtWork, ReplayCancelledError, ReplayError
from projector.shadow import build_indexes, create_shadow, uuid_of
from projector.shapes import ShapeTooOldError, tolerated_by_replays
from projector.swap import fail, give_up, swap
from projector.verify import compare
from shared.background import in_background
from shared.installation import InstallationChangedError
from shared.mongo import Document
from shared.read_models import shapes_of
from shared.read_models_lock import alone_with_read_models
from shared.shadows import drop_shadows

# Rows of one step, which is recorded.
PAGE: Final = 4000
EXAMPLES: Final = 3


class Replay:
    """Rebuilds one read model. `copy` does one step and says where it got to.

    To be used by the one process that has the turn, see replays.taking_turn.
    """

    def __init__(  # noqa: PLR0913 - what a replay works with, once
        self,
        connection: psycopg.Connection,
        installation: UUID,
        database: Database[Document],
        aggregate_type: str,
        *,
        page_deadline_seconds: float,
        rate: float | None = None,
        take_back: bool = False,
    ) -> None:
        """`connection` and `installation` are what open_relay_connection returned; `rate` is in documents a second.

        `take_back` allows that documents have a newer shape than this code makes.
        """
        self._connection = connection
        self._installation = installation
        self._database = database
        self._projection: Projection = PROJECTIONS[aggregate_type]
        self._aggregate_type = aggregate_type
        self._rate = rate
        self._tolerated = tolerated_by_replays(take_back=take_back)
        self._copying = Copying(
            connection,
            installation,
            database,
            aggregate_type,
            page_deadline_seconds=page_deadline_seconds,
            tolerated=self._tolerated,
        )

    def run(self, on_step: Callable[[ReplayAtWork], None] = lambda _: None) -> int:
        """Go from where it is to the end; return how many rows were copied in all. `on_step` is told after each step.

        Raises ReplayError when the shadow is not fit to be shown; then the live collection stays as it is.
        """
        replay = self.begin()
        on_step(replay)
        while replay.state == "copying":
            begun = time.monotonic()
            before, replay = replay, self.copy(replay)
            on_step(replay)
            if self._rate:
                time.sleep(max(0.0, (replay.copied - before.copied) / self._rate - (time.monotonic() - begun)))
        self.verify(replay)
        swap(self._connection, self._database, replay)
        return replay.copied

    def begin(self) -> ReplayAtWork:
        """Return the replay to go on with: the one that was interrupted, else a new one."""
        replay = replays.at_work(self._connection)
        if replay and replay.aggregate_type != self._aggregate_type:
            raise ReplayError(
                f"the replay of {replay.aggregate_type}s of {replay.started_at:%Y-%m-%d %H:%M:%S %Z} was interrupted: "
                f"`projector replay {replay.aggregate_type}s` resumes it, `projector replay --cancel` gives it up"
            )
        if replay and self._can_go_on(replay):
            return replay
        drop_shadows(self._database)
        # Whoever is to go slowly makes the indexes on the way: built at the end, they take all the server has.
        shadow, shadow_uuid = create_shadow(self._database, self._projection.read_model, indexed=bool(self._rate))
        try:
            self._register(shadow, shadow_uuid)
        except ReplayCancelledError:
            self._database.drop_collection(shadow)
            raise
        begun = replays.at_work(self._connection)
        if begun is None:
            raise ReplayCancelledError
        return begun

    def copy(self, replay: ReplayAtWork) -> ReplayAtWork:
        """Copy the tombstones, or the next page of rows; return where the replay is afterwards."""
        if replay.cursor == replays.TOMBSTONES:
            self._copying.copy_tombstones(replay)
            return self._advanced(replay, cursor=0, rows=0)
        limit = min(PAGE, max(1, int(self._rate))) if self._rate else PAGE
        last, count = self._copying.copy_page(replay, limit)
        if count:
            return self._advanced(replay, cursor=last, rows=count)
        replays.move(self._connection, replay.id, "verifying")
        return replace(replay, state="verifying")

    def verify(self, replay: ReplayAtWork) -> None:
        """Compare the shadow to the rows, while it gets the indexes that only queries use.

        Raises ReplayError, and ends the replay, when they differ for good.
        """
        shadow, read_model = self._database[replay.shadow], self._projection.read_model
        indexes = in_background(partial(build_indexes, shadow, read_model))
        try:
            drift = self._drift(replay)
            wait([indexes])
            replays.touch(self._connection, replay.id)
        except ReplayCancelledError:
            # It was dropped; an index that came after that has made it again.
            wait([indexes])
            self._database.drop_collection(replay.shadow)
            raise
        if drift:
            newer = max(shapes_of(shadow.options().get("validator", {})), default=0)
            reason = (
                f" (a version that makes shape {newer} wrote, too: replay with that)" if newer > replay.shape else ""
            )
            error = f"the rebuilt documents differ from their rows{reason}: {'; '.join(map(str, drift))}"
            fail(self._connection, self._database, replay.id, error)
        indexes.result()

    def _drift(self, replay: ReplayAtWork) -> Sequence[Drift]:
        """Return some of the differences between the shadow and the rows."""

        def on_page(_: int) -> None:
            replays.touch(self._connection, replay.id)

        found = compare(self._connection, self._database[replay.shadow], self._projection, deep=True, on_page=on_page)
        # What a failed message explains the live collection has as well: its message is still there to be retried.
        return list(islice((one for one in found if one.dead_letter is None), EXAMPLES))

    def _can_go_on(self, replay: ReplayAtWork) -> bool:
        """Return whether the interrupted replay can be resumed; else it is ended."""
        shape = self._projection.read_model.shape
        if replay.shape != shape:
            reason = f"it was begun in shape {replay.shape}, documents have shape {shape} now"
        elif uuid_of(self._database, replay.shadow) != replay.shadow_uuid:
            reason = f"{replay.shadow} is gone: somebody dropped it"
        else:
            return True
        give_up(self._connection, self._database, replay.id, reason)
        return False

    def _register(self, shadow: str, shadow_uuid: UUID | None) -> None:
        """Let every batch from now on know the shadow. None is in flight meanwhile, so none is half in it.

        Raises ReplayCancelledError when the shadow is not the one that was made.
        """
        read_model = self._projection.read_model
        expected = rows.count(self._connection, self._projection.rows)
        with alone_with_read_models(self._connection):
            # Meanwhile somebody may have emptied the read models, or begun to write in a newer shape.
            with self._connection.transaction():
                held = replays.hold_read_models(self._connection, tolerated=self._tolerated)
            if held.incarnation != self._installation:
                raise InstallationChangedError
            newest = max(shapes_of(self._database[read_model.name].options().get("validator", {})), default=0)
            takes_back = newest > read_model.shape
            if takes_back and ShapeTooOldError not in self._tolerated:
                raise ShapeTooOldError.of(read_model, newest)
            if shadow_uuid is None or uuid_of(self._database, shadow) != shadow_uuid:
                raise ReplayCancelledError
            replays.register(self._connection, read_model, shadow, shadow_uuid, expected, takes_back=takes_back)

    def _advanced(self, replay: ReplayAtWork, *, cursor: int, rows: int) -> ReplayAtWork:
        with self._copying.step(replay):
            replays.advance(self._connection, replay.id, cursor=cursor, rows=rows)
        return replace(replay, cursor=cursor, copied=replay.copied + rows)
