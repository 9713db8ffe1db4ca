"""The real process: `python -m api.main`, its signals, its exit codes and its log."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from api.settings import ApiSettings
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.databases import ROOT
from tests.fixtures.waiting import wait_until


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_told_to_stop_it_answers_what_waits_and_ends(
    start_api: Callable[[], ApiProcess], postgres: psycopg.Connection, number: signal.Signals, exit_code: int
) -> None:
    api = start_api()
    body = {"name": "Ada", "email": "ada@example.org"}
    waiting = "SELECT count(*) FROM outbox WHERE awaited"
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(api.client.post, "/users", json=body, headers={"Prefer": "wait=30", "X-Request-ID": "r1"})
        wait_until(lambda: postgres.execute(waiting).fetchone() == (1,), "the write is committed and waits")
        api.process.send_signal(number)
        assert answer.result().status_code == 202
    assert answer.result().headers["projection-status"] == "pending"
    assert answer.result().elapsed.total_seconds() < 10
    assert api.process.wait(20) == exit_code
    (line,) = [line for line in api.lines() if line["event"] == "request" and line["method"] == "POST"]
    assert (line["request_id"], line["route"], line["status"], line["visibility"]) == ("r1", "/users", 202, "pending")
    assert line["service"] == "api"


def test_the_log_shows_no_secrets_even_when_things_go_wrong(
    start_api: Callable[[], ApiProcess], postgres: psycopg.Connection, api_settings: ApiSettings
) -> None:
    api = start_api()
    secret = psycopg.conninfo.conninfo_to_dict(api_settings.database_url.get_secret_value())["password"]
    assert secret
    postgres.execute("ALTER TABLE users RENAME COLUMN name TO surname")  # an error of ours, traceback and all
    answer = api.client.post("/users", json={"name": "Ada", "email": "hunter2@example.org"})
    assert answer.status_code == 500
    postgres.execute("""
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'kata-api%'
    """)
    wait_until(lambda: "connection.lost" in api.log.read_text(), "the loss is logged")
    log = api.log.read_text()
    assert "Traceback" in log
    assert str(secret) not in log
    assert "hunter2" not in log
    assert all(line["event"] for line in api.lines())


def test_on_a_taken_port_it_says_so_and_ends(api_settings: ApiSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {"API_PORT": str(taken.getsockname()[1]), "DATABASE_URL": "postgresql://127.0.0.1:1/x"}
        done = subprocess.run(
            [sys.executable, "-m", "api.main"], cwd=ROOT, env=os.environ | environment,
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert done.returncode not in {0, None}
    assert "address already in use" in done.stderr
