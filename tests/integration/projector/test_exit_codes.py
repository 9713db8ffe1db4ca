"""Every command of `projector` ends with the exit code that says how it went, and one sentence when it did not go well.

0 good, 1 a finding, 2 usage or configuration, 3 a server could not be reached, 130 interrupted.
"""

import json
import signal
import subprocess
import sys

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from projector import replay_run
from projector.cli import app
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared import read_models_lock
from shared.postgres import READ_MODELS_LOCK
from tests.fixtures.databases import ROOT
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import environment_of

# What asks PostgreSQL alone, and what asks MongoDB as well.
OF_POSTGRESQL = [
    "status",
    "dead-letters list",
    "dead-letters show 1",
    "dead-letters retry --all",
    "dead-letters discard 1",
]
OF_BOTH = ["verify", "verify --sample 5 --repair", "replay", "replay items --ids 1", "replay --cancel"]

AWAY = {"DATABASE_URL": "postgresql://kata:kata@127.0.0.1:1/kata"}
MONGODB_AWAY = {"MONGO_URL": "mongodb://127.0.0.1:1/?replicaSet=rs0", "CONNECT_TIMEOUT_SECONDS": "1"}


def run(settings: ProjectorSettings, command: str, **environment: str) -> Result:
    """Run a command in this process."""
    done = CliRunner().invoke(app, command.split(), env=environment_of(settings) | environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.mark.parametrize("command", [*OF_POSTGRESQL, *OF_BOTH])
def test_a_postgresql_that_is_away_is_3(settings: ProjectorSettings, command: str) -> None:
    done = run(settings, f"{command} --json", **AWAY)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("PostgreSQL could not be reached: OperationalError: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", OF_BOTH)
def test_a_mongodb_that_is_away_is_3(settings: ProjectorSettings, command: str) -> None:
    done = run(settings, command, **MONGODB_AWAY)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith("MongoDB could not be reached: ServerSelectionTimeoutError: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [*OF_POSTGRESQL, *OF_BOTH])
def test_missing_tables_are_1_and_the_command_that_makes_them_is_named(
    settings: ProjectorSettings, command: str, postgres_dsn: str
) -> None:
    done = run(settings, command, DATABASE_URL=postgres_dsn)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "the write model has no tables, run `alembic upgrade head`\n"


@pytest.mark.parametrize("command", ["status", "verify", "replay", "replay --cancel", "dead-letters list", "doctor"])
def test_what_is_good_is_0_with_one_object_as_the_last_line(
    settings: ProjectorSettings, relay: Relay, command: str
) -> None:
    relay.run_once()
    done = run(settings, f"{command} --json")
    # There is no projector, which the doctor alone finds wrong.
    assert done.exit_code == (1 if command == "doctor" else 0)
    assert isinstance(json.loads(done.stdout.splitlines()[-1]), dict)


@pytest.mark.parametrize("command", [*OF_POSTGRESQL, *OF_BOTH, "run", "doctor", "token ada"])
def test_what_no_command_knows_is_2(settings: ProjectorSettings, command: str) -> None:
    done = run(settings, f"{command} --fast")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--fast" in done.stderr


@pytest.mark.parametrize("ids", ["one", "1,", "-1", "0", "9223372036854775808", "1,²"])
def test_ids_that_are_none_are_2(settings: ProjectorSettings, ids: str) -> None:
    done = run(settings, f"replay items --ids={ids}")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)


def test_read_models_that_are_in_use_all_the_time_are_1(
    settings: ProjectorSettings, relay: Relay, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay.run_once()
    monkeypatch.setattr(read_models_lock, "stop_after_delay", lambda _: lambda state: state.attempt_number > 1)
    monkeypatch.setattr(read_models_lock, "FIRST_PATIENCE_SECONDS", 0.01)
    with postgres.transaction():
        postgres.execute("SELECT pg_advisory_xact_lock_shared(%s)", (READ_MODELS_LOCK,))
        for command in ("replay", "replay --cancel"):
            done = run(settings, command)
            assert (done.exit_code, done.stderr) == (
                1,
                "the read models were in use all the time: nothing was changed, try again\n",
            )


def test_an_error_of_ours_keeps_its_traceback(settings: ProjectorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_run, "replay", lambda *_, **__: {}["it"])
    done = CliRunner().invoke(app, ["replay"], env=environment_of(settings))
    assert isinstance(done.exception, KeyError)


def test_an_interrupted_command_is_130_wherever_it_waits(
    settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    commands = ["verify", "replay", "replay --cancel", "dead-letters retry --all"]
    with postgres.transaction():
        postgres.execute("LOCK TABLE users, outbox, outbox_failures, replays IN ACCESS EXCLUSIVE MODE")
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "projector.cli", *command.split()],
                cwd=ROOT, env=environment_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for command in commands
        ]  # fmt: skip
        waiting = (
            "SELECT count(DISTINCT pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as watcher:
            wait_until(lambda: watcher.execute(waiting).fetchone() == (len(commands),), "all of them wait", 60)
        for process in processes:
            process.send_signal(signal.SIGINT)
        ended = [
            (command, *process.communicate(timeout=60), process.returncode)
            for command, process in zip(commands, processes, strict=True)
        ]
    assert ended == [(command, "", "interrupted\n", 130) for command in commands]
