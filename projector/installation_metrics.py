"""The metrics that are true of the whole installation, looked up when somebody asks: every projector tells the same.

A look that fails is told as such, and its numbers are left out: a number that nobody looked up looks fine.
"""

from collections.abc import Iterator
from typing import Final

import psycopg
import pymongo
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pymongo.database import Database
from pymongo.errors import PyMongoError

from projector.projections.registry import PROJECTIONS
from projector.settings import ProjectorSettings
from projector.status import Overview, read_overview
from shared.look import PATIENCE_SECONDS, Look
from shared.metrics import lag, store_up
from shared.mongo import META, Document

REPLAY_STATES: Final = ("copying", "verifying", "swapping", "done", "failed", "cancelled")
PROJECTOR_STATES: Final = ("at work", "silent", "ended")
DRIFT_KINDS: Final = ("missing", "stale", "orphaned", "different")


class InstallationCollector(Collector):
    """Looks at both stores, for each scrape, at most once a second and for two seconds at the longest."""

    def __init__(self, settings: ProjectorSettings, name: str, database: Database[Document]) -> None:
        self._settings = settings
        self._name = f"{name} metrics"
        self._database = database
        self._postgres = Look(self._read_overview)
        self._mongo = Look(self._read_mark)

    def collect(self) -> Iterator[Metric]:
        """Yield which stores answer, and what they say."""
        self._mongo.begin()
        overview = self._seen()
        yield store_up(postgres=overview is not None, mongo=self._answers())
        if overview:
            yield from _outbox(overview)
            yield _projectors(overview)
            yield from _replays(overview)
            yield from _drift(overview)

    def _seen(self) -> Overview | None:
        try:
            return self._postgres.answer()
        except (psycopg.Error, TimeoutError):
            return None

    def _answers(self) -> bool:
        try:
            return self._mongo.answer()
        except (PyMongoError, TimeoutError):
            return False

    def _read_overview(self) -> Overview:
        return read_overview(self._settings, self._name, milliseconds=int(PATIENCE_SECONDS * 1000))

    def _read_mark(self) -> bool:
        """Read as the relay does: from the primary, as our user."""
        with pymongo.timeout(PATIENCE_SECONDS):
            self._database[META].find_one({}, {"_id": 1})
        return True


def _outbox(overview: Overview) -> Iterator[Metric]:
    status = overview.outbox
    yield from lag(status.lag_seconds)
    yield GaugeMetricFamily("kata_backlog_messages", "Messages that are not settled", status.backlog)
    yield GaugeMetricFamily("kata_retrying_messages", "Messages that failed and will be tried again", status.failures)
    yield GaugeMetricFamily("kata_dead_letters", "Messages that wait for an operator", status.dead_letters)


def _projectors(overview: Overview) -> Metric:
    family = GaugeMetricFamily(
        "kata_projectors", "Projectors of the last hour, by what PostgreSQL knows of them", labels=["state"]
    )
    for state in PROJECTOR_STATES:
        family.add_metric([state], sum(projector.state == state for projector in overview.projectors))
    return family


def _replays(overview: Overview) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "kata_replay_state", "1 for the state of the read model's newest replay", labels=["read_model", "state"]
    )
    copied = GaugeMetricFamily("kata_replay_copied_rows", "Rows that the newest replay has read", labels=["read_model"])
    expected = GaugeMetricFamily("kata_replay_expected_rows", "Rows there were at its start", labels=["read_model"])
    idle = GaugeMetricFamily(
        "kata_replay_idle_seconds", "Time since a replay at work has moved on", labels=["read_model"]
    )
    for replay in overview.replays:
        read_model = PROJECTIONS[replay.aggregate_type].rows.table
        for name in REPLAY_STATES:
            state.add_metric([read_model, name], int(replay.state == name))
        copied.add_metric([read_model], replay.copied)
        expected.add_metric([read_model], replay.expected)
        idle.add_metric([read_model], replay.idle_seconds if replay.is_at_work else 0)
    yield from (state, copied, expected, idle)


def _drift(overview: Overview) -> Iterator[Metric]:
    documents = GaugeMetricFamily(
        "kata_drift_documents", "Documents found to differ since the last verification of the whole",
        labels=["read_model", "kind"],
    )  # fmt: skip
    age = GaugeMetricFamily(
        "kata_verification_age_seconds", "Time since a verification or a sample ended", labels=["read_model"]
    )
    for found in overview.drift:
        read_model = PROJECTIONS[found.aggregate_type].rows.table
        for kind in DRIFT_KINDS:
            documents.add_metric([read_model, kind], getattr(found, kind))
        age.add_metric([read_model], found.age_seconds)
    yield from (documents, age)
