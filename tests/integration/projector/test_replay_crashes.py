"""A replay that is killed at any step loses nothing: relays go on, and it is resumed, finished or cancelled."""

import subprocess
import sys
from collections.abc import Callable

import psycopg
import pytest
from pymongo.database import Database

from api.scripts.clean_mongo import clean
from projector import replays
from projector.connection import open_relay_connection
from projector.relay import Relay
from projector.replays import SwapUnfinishedError
from projector.settings import ProjectorSettings
from projector.shadow import uuid_of
from projector.swap import finish_swap
from shared.mongo import Document
from tests.fixtures.databases import ROOT
from tests.fixtures.killed_replay import STEPS
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.replays import MakeReplay, alive, send, shadows, states
from tests.integration.projector.conftest import Rows, environment_of, run_cli

RESUMED = ["registered", "copied", "verified"]


@pytest.fixture
def killed_at(settings: ProjectorSettings) -> Callable[[str], None]:
    """Runs `projector replay users` until it is dead."""

    def run(step: str) -> None:
        died = subprocess.run(
            [sys.executable, "-m", "tests.fixtures.killed_replay", step, "replay", "users"],
            cwd=ROOT, env=environment_of(settings), check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert died.returncode == -9, died.stderr

    return run


def relay_all(relay: Relay) -> None:
    """Step a relay as its loop would: a swap that was left is finished at its next connection."""
    try:
        relay.run_once()
    except SwapUnfinishedError:
        relay.run_once()
    drain(relay)


def live_uuid(read_models: Database[Document]) -> object:
    return uuid_of(read_models, "users_read")


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_lost_wherever_a_replay_is_killed(
    killed_at: Callable[[str], None],
    step: str,
    make_relay: Callable[..., Relay],
    make_replay: MakeReplay,
    rows: Rows,
    outbox: Outbox,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    users = [rows.user() for _ in range(7)]
    relay = make_relay()
    relay.run_once()
    gone = rows.user()
    outbox.user(gone)
    drain(relay)
    killed_at(step)

    # Commands go on, and a relay that was connected all the time settles them.
    postgres.execute("UPDATE users SET name = 'Grace', version = 2 WHERE id = %s", (users[0],))
    postgres.execute("DELETE FROM users WHERE id = %s", (gone,))
    send(outbox, "user", users[0])
    outbox.deleted("user", gone, 2)
    relay_all(relay)
    assert outbox.ids() == []
    assert next(user["name"] for user in alive(read_models, "users_read") if user["_id"] == users[0]) == "Grace"

    make_replay("user").run()

    assert [user["_id"] for user in alive(read_models, "users_read")] == users
    assert alive(read_models, "users_read")[0]["name"] == "Grace"
    assert read_models["users_read"].find_one({"_id": gone}, {"version": 1}) == {"_id": gone, "version": 2}
    assert shadows(read_models) == []
    # One that had begun to copy was resumed; a swap that had begun was finished by the relay, not done again.
    expected = {"created": 1, "swapping": 2, "renamed": 2}.get(step, 1)
    assert states(postgres) == [("user", "done")] * expected
    last = postgres.execute("SELECT shadow_uuid FROM replays ORDER BY id DESC LIMIT 1").fetchone()
    assert last == (live_uuid(read_models),)


@pytest.mark.parametrize("step", RESUMED)
def test_a_resumed_replay_goes_on_where_it_was(
    killed_at: Callable[[str], None], step: str, make_replay: MakeReplay, rows: Rows, postgres: psycopg.Connection
) -> None:
    for _ in range(7):
        rows.user()
    killed_at(step)

    resumed = make_replay("user").begin()

    state, copied = {"registered": ("copying", 0), "copied": ("copying", 3), "verified": ("verifying", 7)}[step]
    assert (resumed.state, resumed.copied) == (state, copied)


@pytest.mark.parametrize("step", ["swapping", "renamed"])
def test_a_swap_that_was_left_is_done_once_and_only_once(
    killed_at: Callable[[str], None],
    step: str,
    rows: Rows,
    settings: ProjectorSettings,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    rows.user()
    killed_at(step)
    left = replays.at_work(postgres)
    assert left
    assert (live_uuid(read_models) == left.shadow_uuid) == (step == "renamed")

    for _ in range(2):
        finish_swap(postgres, read_models)
        open_relay_connection(settings, "test", read_models)[0].close()

    assert live_uuid(read_models) == left.shadow_uuid
    assert states(postgres) == [("user", "done")]


def test_a_swap_that_was_left_is_finished_although_its_shadow_is_gone(
    killed_at: Callable[[str], None],
    rows: Rows,
    relay: Relay,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    relay.run_once()
    before = live_uuid(read_models)
    rows.user()
    killed_at("swapping")
    (shadow,) = shadows(read_models)
    read_models.drop_collection(shadow)

    finish_swap(postgres, read_models)

    assert states(postgres) == [("user", "failed")]
    assert live_uuid(read_models) == before


@pytest.mark.parametrize("step", ["created", "copied", "verified"])
def test_a_killed_replay_is_cancelled_without_a_trace(
    killed_at: Callable[[str], None],
    step: str,
    rows: Rows,
    settings: ProjectorSettings,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    for _ in range(4):
        rows.user()
    killed_at(step)
    before = live_uuid(read_models)

    assert run_cli(settings, "replay", "--cancel").returncode == 0

    assert shadows(read_models) == []
    assert replays.at_work(postgres) is None
    assert live_uuid(read_models) == before


@pytest.mark.parametrize("step", ["created", "copied", "swapping", "renamed"])
def test_cleaning_after_a_killed_replay_leaves_nothing_of_it(
    killed_at: Callable[[str], None],
    step: str,
    rows: Rows,
    make_replay: MakeReplay,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    users = [rows.user() for _ in range(4)]
    killed_at(step)

    clean(postgres, read_models)

    assert shadows(read_models) == []
    assert replays.at_work(postgres) is None
    assert alive(read_models, "users_read") == []
    make_replay("user").run()
    assert [user["_id"] for user in alive(read_models, "users_read")] == users


def test_a_replay_whose_shadow_was_dropped_begins_anew(
    killed_at: Callable[[str], None],
    rows: Rows,
    make_replay: MakeReplay,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    users = [rows.user() for _ in range(4)]
    killed_at("copied")
    (shadow,) = shadows(read_models)
    read_models.drop_collection(shadow)

    assert make_replay("user").run() == 4

    assert states(postgres) == [("user", "failed"), ("user", "done")]
    assert [user["_id"] for user in alive(read_models, "users_read")] == users
