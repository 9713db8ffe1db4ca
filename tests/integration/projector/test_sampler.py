"""The sampler: drift is noticed by itself, by one projector of the installation, and nothing else notices it."""

import threading
from collections.abc import Callable, Sequence

import psycopg
import pytest
from pymongo.database import Database
from structlog.testing import capture_logs

from projector import sampler as sampler_module
from projector.drift import Drift
from projector.sampler import Sampler
from projector.settings import ProjectorSettings
from projector.verifications import Verification
from projector.verify import WINDOW
from shared.mongo import Document, ensure_read_models
from shared.postgres import READ_MODELS_LOCK, SAMPLER_LOCK
from tests.fixtures.newer_version import NEWER
from tests.fixtures.relays import Watched, projecting
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ReadModels, Rows

BEGIN_REPLAY = """
    INSERT INTO replays (aggregate_type, shadow, shadow_uuid, shape, state, cursor, copied, expected)
    VALUES ('user', 'x', gen_random_uuid(), 1, 'copying', 0, 0, 0)
"""


@pytest.fixture
def sampling(settings: ProjectorSettings) -> ProjectorSettings:
    """Settings with which a sample is due whenever it is asked for."""
    return settings.model_copy(update={"verify_sample_seconds": 0.01, "verify_sample_size": 50})


@pytest.fixture
def sampler(sampling: ProjectorSettings, read_models: Database[Document]) -> Sampler:
    return Sampler(sampling, "test", read_models)


@pytest.fixture
def user(rows: Rows, shown: ReadModels) -> int:
    """A user with one item, in rows and documents alike."""
    user_id = rows.user("Ada", version=2)
    rows.item(user_id)
    shown.fill()
    return user_id


def kept(postgres: psycopg.Connection) -> list[tuple[object, ...]]:
    return postgres.execute(
        "SELECT aggregate_type, kind, compared, missing, stale, orphaned, different FROM verifications ORDER BY id"
    ).fetchall()


def test_a_sample_compares_contents_and_keeps_what_it_found(
    user: int, sampler: Sampler, shown: ReadModels, postgres: psycopg.Connection
) -> None:
    shown.spoil("user", user, name="wrong")
    (users, drift), (items, nothing) = sampler.run_once()
    assert drift == [Drift("different", "user", user, 2, 2, ("name",))]
    assert nothing == []
    assert (users.drift, items.drift) == (1, 0)
    assert kept(postgres) == [("user", "sample", 1, 0, 0, 0, 1), ("item", "sample", 1, 0, 0, 0, 0)]


def test_of_many_projectors_one_takes_the_sample(
    user: int, settings: ProjectorSettings, read_models: Database[Document], postgres: psycopg.Connection
) -> None:
    hourly = settings.model_copy(update={"verify_sample_seconds": 3600})
    assert [len(Sampler(hourly, f"test {n}", read_models).run_once()) for n in range(3)] == [2, 0, 0]
    # An hour later it is due again, whoever comes first.
    postgres.execute("UPDATE verifications SET ended_at = ended_at - interval '1 hour'")
    assert [len(Sampler(hourly, f"test {n}", read_models).run_once()) for n in range(2)] == [2, 0]


@pytest.mark.parametrize("lock", [SAMPLER_LOCK, READ_MODELS_LOCK])
def test_a_sample_is_never_waited_for(user: int, sampler: Sampler, postgres: psycopg.Connection, lock: int) -> None:
    # Another projector is at it, or somebody empties the read models just now.
    postgres.execute("SELECT pg_advisory_lock(%s)", (lock,))
    assert sampler.run_once() == []
    postgres.execute("SELECT pg_advisory_unlock(%s)", (lock,))
    assert len(sampler.run_once()) == 2


def test_no_sample_is_taken_while_a_replay_is_at_work(
    user: int, sampler: Sampler, postgres: psycopg.Connection
) -> None:
    postgres.execute(BEGIN_REPLAY)
    assert sampler.run_once() == []
    postgres.execute("UPDATE replays SET state = 'done', ended_at = clock_timestamp()")
    assert len(sampler.run_once()) == 2


def test_no_sample_is_taken_of_what_two_versions_write(
    user: int, sampler: Sampler, read_models: Database[Document]
) -> None:
    ensure_read_models(read_models, (NEWER,))
    assert [verification.aggregate_type for verification, _ in sampler.run_once()] == ["user"]


def test_a_read_model_that_somebody_dropped_is_sampled(user: int, sampler: Sampler, shown: ReadModels) -> None:
    shown.collection("user").drop()
    (users, _), _ = sampler.run_once()
    assert users.missing == 1


def test_a_sample_only_reads_documents_and_only_windows_of_them(
    rows: Rows, shown: ReadModels, sampling: ProjectorSettings, watch: Callable[[], Watched]
) -> None:
    for _ in range(200):
        rows.user()
    shown.fill()
    database, commands = watch()
    (users, _), _ = Sampler(sampling, "test", database).run_once()
    assert {name for name, _ in commands.sent} <= {"find", "listCollections", "endSessions", "hello"}
    users_finds = [find for find in commands.named("find") if find["find"] == "users_read"]
    assert max(find["limit"] for find in users_finds) <= WINDOW
    assert users.compared <= 60


def test_a_running_projector_takes_samples_and_warns_of_drift(
    user: int, sampling: ProjectorSettings, shown: ReadModels, postgres: psycopg.Connection
) -> None:
    shown.lose("user", user)
    with capture_logs() as lines, projecting(sampling):
        wait_until(lambda: len(kept(postgres)) >= 4, "two samples of each read model")
        wait_until(lambda: [line for line in lines if line["event"] == "sample.drift"], "the drift is logged")
    line = next(line for line in lines if line["event"] == "sample.drift")
    assert (line["aggregate_type"], line["compared"], line["missing"], line["stale"]) == ("user", 1, 1, 0)
    assert line["examples"] == [f"user {user} is missing: row version 2, document version None"]
    assert line["log_level"] == "warning"


def test_without_a_period_no_sample_is_taken(
    user: int, settings: ProjectorSettings, read_models: Database[Document], postgres: psycopg.Connection
) -> None:
    Sampler(settings, "test", read_models).run(threading.Event(), pytest.fail, pytest.fail)
    assert kept(postgres) == []


@pytest.mark.parametrize(
    "break_it",
    ["ALTER TABLE verifications RENAME TO gone", "UPDATE installation SET id = gen_random_uuid()"],
)
def test_a_fault_is_reported_and_tried_again(
    user: int, sampler: Sampler, postgres: psycopg.Connection, break_it: str
) -> None:
    postgres.execute(break_it.encode())
    stop, faults = threading.Event(), list[BaseException]()

    def note(error: BaseException) -> None:
        faults.append(error)
        if len(faults) == 2:
            stop.set()

    def ended(verification: Verification, found: Sequence[Drift]) -> None:
        pytest.fail("a sample was taken")

    sampler.run(stop, ended, note)
    assert len(faults) == 2


def test_a_silent_server_costs_a_projector_no_more_than_a_sample(
    user: int, sampling: ProjectorSettings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler_module, "STATEMENT_TIMEOUT_MILLISECONDS", 100)
    # Somebody holds a table that the sampler reads; lanes go on, and the projector still ends.
    with psycopg.connect(database_url) as holder, capture_logs() as lines:
        holder.execute("LOCK TABLE users")
        with projecting(sampling) as projector:
            wait_until(lambda: [line for line in lines if line["event"] == "sample.failed"], "it was given up")
            assert projector.name
        holder.rollback()
    assert [line["event"] for line in lines if line["log_level"] == "error"] == []
