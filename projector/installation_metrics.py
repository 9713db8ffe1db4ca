"""The metrics that are true of the whole installation, looked up when somebody asks: every projector tells the same.

A look that fails is told as such, and its numbers are left out: a number that nobody looked up looks fine.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from projector.lookout import Lookout
from projector.projections.registry import PROJECTIONS
from projector.status import Overview
from shared.metrics import lag, store_up

REPLAY_STATES: Final = ("copying", "verifying", "swapping", "done", "failed", "cancelled")
PROJECTOR_STATES: Final = ("at work", "silent", "ended")
DRIFT_KINDS: Final = ("missing", "stale", "orphaned", "different")


class InstallationCollector(Collector):
    """Looks at both stores for each scrape."""

    def __init__(self, lookout: Lookout) -> None:
        self._lookout = lookout

    def collect(self) -> Iterator[Metric]:
        """Yield which stores answer, and what they say."""
        sight = self._lookout.look()
        yield store_up(postgres=not sight.postgres_fault, mongo=not sight.mongo_fault)
        if sight.overview:
            yield from _outbox(sight.overview)
            yield _projectors(sight.overview)
            yield from _replays(sight.overview)
            yield from _drift(sight.overview)


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
