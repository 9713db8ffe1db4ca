"""The command `projector replay`: what it prints, its exit codes, one at a time, cancel, ids and rate."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from pymongo.database import Database

from projector.process import Projector
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.mongo import Document
from tests.fixtures.databases import ROOT
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.replays import MakeReplay, alive, shadows, states
from tests.fixtures.runbook import procedure, run_procedure
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import Rows, environment_of, run_cli


@contextmanager
def slow_replay(settings: ProjectorSettings, postgres: psycopg.Connection) -> Iterator[subprocess.Popen[str]]:
    """Run `projector replay users` as a process that has copied something and will take minutes for all of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "projector.cli", "replay", "users", "--rate", "1"],
        cwd=ROOT, env=environment_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        copied = "SELECT copied > 0 FROM replays WHERE ended_at IS NULL"
        wait_until(lambda: postgres.execute(copied).fetchone() == (True,), "it copies", 60)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def many_users(rows: Rows) -> list[int]:
    """More than a slow replay copies while a test runs."""
    return [rows.user() for _ in range(200)]


def test_the_runbooks_procedure_rebuilds_both(
    settings: ProjectorSettings, rows: Rows, running_projector: Projector, read_models: Database[Document]
) -> None:
    items = [rows.item(rows.user())]

    done = run_procedure(procedure("Rebuilding the read models"), environment_of(settings))

    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["Replayed 1 users, 1 items.", "No drift: compared 1 users, 1 items."],
    )
    assert [item["_id"] for item in alive(read_models)] == items


def test_it_ends_with_one_json_object(settings: ProjectorSettings, rows: Rows) -> None:
    owner_id = rows.user()
    rows.item(owner_id)
    rows.item(owner_id)

    done = run_cli(settings, "replay", "--json")
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])) == (0, {"users": 1, "items": 2})

    done = run_cli(settings, "replay", "items")
    assert (done.returncode, done.stdout) == (0, "Replayed 2 items.\n")


def test_a_second_one_is_refused_and_told_who_is_at_work_since_when(
    settings: ProjectorSettings, many_users: list[int], postgres: psycopg.Connection
) -> None:
    with slow_replay(settings, postgres) as process:
        refused = run_cli(settings, "replay", "items")
        assert refused.returncode == 1
        assert refused.stderr.count("\n") == 1
        assert refused.stderr.startswith("a replay of users is at work since 20")
        assert f":{process.pid}, session " in refused.stderr
        assert "projector replay --cancel" in refused.stderr
    assert states(postgres) == [("user", "copying")]


def test_cancel_ends_a_running_one_without_a_trace(
    settings: ProjectorSettings, many_users: list[int], postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    with slow_replay(settings, postgres) as process:
        done = run_procedure(procedure("Rebuilding the read models", 2), environment_of(settings))
        assert (done.returncode, done.stdout) == (0, "Cancelled the replay of users.\n")
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr.splitlines()[-1]) == (
            1,
            "the replay was cancelled; the read models are as they were",
        )
    assert states(postgres) == [("user", "cancelled")]
    assert shadows(read_models) == []
    assert alive(read_models, "users_read") == []

    done = run_cli(settings, "replay", "--cancel", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"cancelled": None})


def test_an_interrupted_one_is_resumed_and_everything_asked_for_is_done(
    settings: ProjectorSettings, make_replay: MakeReplay, rows: Rows, postgres: psycopg.Connection
) -> None:
    rows.item(rows.user())
    make_replay("item").begin()

    refused = run_cli(settings, "replay", "users")
    assert refused.returncode == 1
    assert (
        "was interrupted: `projector replay items` resumes it, `projector replay --cancel` gives it up"
        in refused.stderr
    )

    done = run_procedure(procedure("Rebuilding the read models", 1), environment_of(settings))
    assert done.returncode == 0, done.stderr
    assert "of items: copying, 0 of 1 rows (0%)" in done.stdout
    assert done.stdout.splitlines()[-1] == "Replayed 1 items, 1 users."
    assert states(postgres) == [("item", "done"), ("user", "done")]


def test_single_documents_are_rewritten_by_messages(
    settings: ProjectorSettings, relay: Relay, rows: Rows, outbox: Outbox, read_models: Database[Document]
) -> None:
    relay.run_once()
    owner_id = rows.user()
    first, second, third = (rows.item(owner_id, "right") for _ in range(3))
    for item_id in (first, second):
        outbox.item(item_id, name="wrong")
    drain(relay)

    chosen = {"4711,4712": f"{first},{third},999"}
    done = run_procedure(procedure("Rebuilding the read models", 3), environment_of(settings), replaced=chosen)
    assert (done.returncode, done.stdout) == (0, "Sent 2 messages for 3 items: the relay rewrites them.\n")
    drain(relay)

    assert {item["_id"]: item["name"] for item in alive(read_models)} == {
        first: "right",
        second: "wrong",
        third: "right",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ids", "1"),
        ("items", "--ids", "one"),
        ("items", "--ids", "1", "--rate", "5"),
        ("items", "--cancel"),
        ("--rate", "0"),
    ],
)
def test_wrong_usage_is_exit_code_2(settings: ProjectorSettings, arguments: tuple[str, ...]) -> None:
    done = run_cli(settings, "replay", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_its_progress_is_seen_by_status_from_anywhere(
    settings: ProjectorSettings, many_users: list[int], postgres: psycopg.Connection
) -> None:
    with slow_replay(settings, postgres):
        shown = run_cli(settings, "status").stdout
    assert "of users: copying, " in shown
    assert " of 200 rows (" in shown
