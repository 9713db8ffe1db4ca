"""The script as the owner runs it: from any directory, with exit codes and a JSON summary."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from api.catalogue.seeding import CHUNK_ENTRIES
from tests.fixtures.databases import ROOT
from tests.fixtures.waiting import wait_until

SCRIPT = ROOT / "api" / "scripts" / "seed.py"
CATALOGUE = ROOT / "tests" / "data" / "catalogue-300.jsonl"
NOTHING = {"users": 0, "items": 0, "already_there": 0, "bad_lines": 0}

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(database_url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.fixture
def run_seed(database_url: str, tmp_path: Path) -> Run:
    """Runs the script in a directory that has nothing to do with the project."""

    def run(*arguments: str, url: str = database_url, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            cwd=tmp_path, env=environment(url), input=given, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return what the last line says, but for the time."""
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert counts.pop("seconds") >= 0
    return counts


def test_without_arguments_it_adds_the_demo_data_once(run_seed: Run) -> None:
    first, second = run_seed(), run_seed()
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("Added 3 users and 10 items in ")
    assert second.returncode == 0
    assert "13 were already there" in second.stdout


def test_a_catalogue_comes_from_a_file_or_from_standard_input(run_seed: Run) -> None:
    first = run_seed("--from", str(CATALOGUE), "--json")
    second = run_seed("--from", "-", "--json", given=CATALOGUE.read_text(encoding="utf-8"))
    assert (first.returncode, second.returncode) == (0, 0)
    assert summary(first)["users"] + summary(first)["items"] == 300
    assert summary(second) == {**NOTHING, "already_there": 300}


def test_users_and_items_are_made_up_for_volume(run_seed: Run) -> None:
    few = run_seed("--users", "7", "--items", "100", "--json")
    more = run_seed("--users", "7", "--items", "150", "--json")
    assert summary(few) == {**NOTHING, "users": 7, "items": 100}
    assert summary(more) == {**NOTHING, "items": 50, "already_there": 107}


def test_a_bad_line_is_named_and_the_rest_goes_on(run_seed: Run) -> None:
    lines = [
        {"kind": "user", "email": "ada@example.org", "name": "Ada"},
        {"kind": "item", "owner_email": "bob@example.org", "name": "x", "sell_in": 1, "quality": 2, "tags": []},
        {"kind": "item", "owner_email": "ada@example.org", "name": "x", "sell_in": "1", "quality": 2, "tags": []},
        {"kind": "item", "owner_email": "ada@example.org", "name": "x", "sell_in": 1, "quality": 2, "tags": []},
    ]
    done = run_seed("--from", "-", "--json", given="\n".join(map(json.dumps, lines)))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "line 2: owner_email: no user with this address",
        "line 3: sell_in: Input should be a valid integer",
    ]
    assert summary(done) == {"users": 1, "items": 1, "already_there": 0, "bad_lines": 2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--items", "5"], "items need owners"),
        (["--from", "-", "--users", "5"], "exclude each other"),
        (["--users", "-1"], "--users"),
        (["--from", "there/is/no/such.jsonl"], "cannot be read: No such file or directory"),
        (["--from", str(ROOT)], "cannot be read: Is a directory"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_is_exit_2(run_seed: Run, arguments: list[str], said: str) -> None:
    done = run_seed(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_settings_are_exit_2(run_seed: Run) -> None:
    done = run_seed(url="mysql://nowhere/kata")
    assert done.returncode == 2
    assert done.stderr.startswith("DATABASE_URL: expected postgresql://")


def test_a_server_that_is_away_is_exit_3(run_seed: Run) -> None:
    done = run_seed("--json", url="postgresql://kata:secret-word@127.0.0.1:1/kata")
    assert done.returncode == 3
    assert done.stderr.startswith("PostgreSQL could not be reached: ")
    assert len(done.stderr.splitlines()) == 1
    assert "secret-word" not in done.stderr
    assert summary(done) == NOTHING


def test_missing_tables_are_exit_3_and_the_remedy_is_named(
    run_seed: Run, create_database: Callable[[str | None], str]
) -> None:
    done = run_seed(url=create_database(None))
    assert (done.returncode, done.stderr) == (3, "The write model has no tables, run `alembic upgrade head`\n")


def test_interrupted_it_keeps_what_is_committed_and_says_so(database_url: str, postgres: psycopg.Connection) -> None:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--users", "100", "--items", "100000000", "--json"],
        env=environment(database_url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as script:  # fmt: skip
        wait_until(lambda: _count(postgres, "items") > 0, "the first chunk is committed")
        script.send_signal(signal.SIGINT)
        out, error = script.communicate(timeout=30)
    assert script.returncode == 130
    assert error == "Interrupted: what is committed stays, run it again to add the rest\n"
    # The server may have committed the last chunk, and the answer have been on its way.
    assert 0 <= _count(postgres, "items") - json.loads(out)["items"] <= CHUNK_ENTRIES
    assert _count(postgres, "outbox") == _count(postgres, "items") + _count(postgres, "users")


def test_what_the_driver_warns_of_while_an_import_is_broken_off_is_not_printed(database_url: str) -> None:
    # In the midst of a statement the driver cannot roll back, and says so. When that is so is luck.
    broken_off = """
import logging
from api.scripts import seed

def broken(*_):
    logging.getLogger("psycopg").warning("error ignored in rollback")
    raise KeyboardInterrupt

seed.seed = broken
seed.app([])
"""
    done = subprocess.run(
        [sys.executable, "-c", broken_off],
        env=environment(database_url), cwd=SCRIPT.parents[2], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        130,
        "Interrupted: what is committed stays, run it again to add the rest\n",
    )


def test_waiting_for_input_it_can_be_interrupted(database_url: str, postgres: psycopg.Connection) -> None:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--from", "-"],
        env=environment(database_url), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as script:  # fmt: skip
        wait_until(lambda: _locks(postgres), "the import holds its lock")
        script.send_signal(signal.SIGINT)
        assert script.wait(30) == 130


def _count(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row
    return int(row[0])


def _locks(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    ).fetchone()
    assert row
    return int(row[0])
