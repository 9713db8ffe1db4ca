"""The sampler: now and then some documents are compared with their rows, so that drift is noticed by itself.

It only reads, on connections of its own, and never for long: a server that is slow or away costs it the round.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final, cast

import psycopg
import pymongo
from psycopg.rows import scalar_row
from pymongo.database import Database

from projector import verifications
from projector.drift import Drift
from projector.projections.registry import PROJECTIONS
from projector.rounds import in_rounds, reporting
from projector.settings import ProjectorSettings
from projector.verifications import Verification
from projector.verify import sample
from shared.installation import check_read_models
from shared.mongo import Document
from shared.postgres import READ_MODELS_LOCK, SAMPLER_LOCK, connect
from shared.read_models import shapes_of

# What a read model's sample may take of each server's time: MongoDB as a whole, PostgreSQL a statement.
SECONDS: Final = 5
STATEMENT_TIMEOUT_MILLISECONDS: Final = 2_000
# The transaction is idle while MongoDB answers.
IDLE_TIMEOUT_MILLISECONDS: Final = 15_000

# One projector of the installation at a time, and not while the read models are emptied or swapped.
TAKE_TURN: Final = """
    SELECT pg_try_advisory_xact_lock(%(sampler)s) AND pg_try_advisory_xact_lock_shared(%(read_models)s)
"""

# Another projector's sample counts as well; and what a replay is rebuilding need not be looked at.
IS_DUE: Final = """
    SELECT NOT EXISTS (
        SELECT FROM verifications
        WHERE kind = 'sample' AND ended_at > clock_timestamp() - make_interval(secs => %(seconds)s)
    ) AND NOT EXISTS (SELECT FROM replays WHERE ended_at IS NULL)
"""

Sample = tuple[Verification, Sequence[Drift]]


class Sampler:
    """Takes a sample of each read model. `run_once` returns what was found, nothing when it was not its turn."""

    def __init__(self, settings: ProjectorSettings, name: str, database: Database[Document]) -> None:
        self._settings = settings
        self._name = f"{name} sampler"
        self._database = database

    def run(
        self,
        stop: threading.Event,
        on_sample: Callable[[Verification, Sequence[Drift]], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        """Take samples until `stop` is set; none at all with VERIFY_SAMPLE_SECONDS=0."""
        if not self._settings.verify_sample_seconds:
            return

        def step() -> bool:
            with reporting(on_fault):
                for verification, found in self.run_once():
                    on_sample(verification, found)
            return False

        in_rounds(stop, self._settings.verify_sample_seconds, step)

    def run_once(self) -> Sequence[Sample]:
        """Compare about VERIFY_SAMPLE_SIZE aggregates of each read model, contents too, and keep what was found."""
        with connect(
            self._settings,
            self._name,
            statement_timeout=STATEMENT_TIMEOUT_MILLISECONDS,
            idle_in_transaction_session_timeout=IDLE_TIMEOUT_MILLISECONDS,
        ) as connection:
            if not self._is_its_turn(connection):
                return []
            with pymongo.timeout(SECONDS):
                check_read_models(connection, self._database)
            return [self._sample(connection, name) for name in PROJECTIONS if self._is_comparable(name)]

    def _is_its_turn(self, connection: psycopg.Connection) -> bool:
        ask = connection.cursor(row_factory=scalar_row)
        turn = ask.execute(TAKE_TURN, {"sampler": SAMPLER_LOCK, "read_models": READ_MODELS_LOCK}).fetchone()
        # In a statement of its own, which sees what was committed before the lock was free.
        due = ask.execute(IS_DUE, {"seconds": self._settings.verify_sample_seconds}).fetchone()
        return cast("bool", turn and due)

    def _is_comparable(self, aggregate_type: str) -> bool:
        """Return whether documents are of no shape but ours: any other one differs, and that is no drift."""
        read_model = PROJECTIONS[aggregate_type].read_model
        with pymongo.timeout(SECONDS):
            validator = self._database[read_model.name].options().get("validator", {})
        return shapes_of(validator) <= {read_model.shape}

    def _sample(self, connection: psycopg.Connection, aggregate_type: str) -> Sample:
        projection, verification = PROJECTIONS[aggregate_type], Verification(aggregate_type, "sample")

        def on_page(count: int) -> None:
            verification.compared += count

        collection = self._database[projection.read_model.name]
        with pymongo.timeout(SECONDS):
            size = self._settings.verify_sample_size
            found = list(sample(connection, collection, projection, size, deep=True, on_page=on_page))
        for drift in found:
            verification.count(drift)
        verifications.record(connection, verification)
        return verification, found
