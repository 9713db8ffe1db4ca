"""`kata up` with real servers and programs that only pretend to be API and projector."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
from pymongo import MongoClient

from devstack.addresses import without_login
from devstack.applications import ELSEWHERE
from tests.unit.devstack.stand_in import StandIn, environment_of, eventually, is_gone


def test_detached_it_returns_when_all_is_ready_and_down_returns_when_all_is_gone(stand_in: StandIn) -> None:
    up = stand_in.run("up", "--detach", "--projectors", "2")
    assert up.returncode == 0, up.stderr
    assert stand_in.run("status").returncode == 0
    pids = stand_in.pids()
    assert len(pids) == 5
    supervisor = stand_in.status()["supervisor"]

    assert stand_in.run("down").returncode == 0
    assert [pid for pid in (supervisor, *pids) if not is_gone(pid)] == []
    assert stand_in.status() == {"processes": [], "supervisor": None}


def test_down_and_status_are_harmless_when_nothing_runs(stand_in: StandIn) -> None:
    down, status = stand_in.run("down"), stand_in.run("status")
    assert (down.returncode, status.returncode) == (0, 1)
    assert down.stdout == status.stdout == f"Nothing is running on {stand_in.data}.\n"


def test_the_last_line_of_up_says_where_everything_is(stand_in: StandIn) -> None:
    up = stand_in.up("--projectors", "2")
    addresses = stand_in.ready(up)
    assert list(addresses) == ["api", "projector", "projectors", "postgres", "mongo"]
    assert addresses["projectors"][0] == addresses["projector"]
    assert len(set(addresses["projectors"])) == 2
    with psycopg.connect(addresses["postgres"]) as connection:
        assert connection.info.dbname == "kata"
    with MongoClient[dict[str, object]](addresses["mongo"]) as client:
        assert client.admin.command("hello")["isWritablePrimary"]
    (api,) = stand_in.pids("api")
    environment = environment_of(api)
    for server, variable in (("postgres", "DATABASE_URL"), ("mongo", "MONGO_URL")):
        assert without_login(environment[variable]) == without_login(addresses[server])
        assert environment[variable] != addresses[server], "nobody works as the administrator"
        assert f"//kata_api:{(stand_in.data / 'roles' / 'api').read_text().strip()}@" in environment[variable]
    assert environment["MONGO_DATABASE"] == "kata"
    assert [environment[name] for name in ELSEWHERE] == ["", "", ""]


def test_only_up_json_shows_the_passwords(stand_in: StandIn) -> None:
    up = stand_in.run("up", "--detach")
    files = [*stand_in.data.glob("*/password"), *(stand_in.data / "roles").iterdir()]
    passwords = [file.read_text().strip() for file in files]
    assert len(passwords) == 6
    shown = [up.stdout, up.stderr, stand_in.run("status").stdout, stand_in.run("status", "--json").stdout]
    shown += [Path(f"/proc/{pid}/cmdline").read_text() for pid in stand_in.pids()]
    shown += [log.read_text() for log in (stand_in.data / "logs").iterdir()]
    assert [text for text in shown for password in passwords if password in text] == []


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_a_signal_stops_all_of_it(stand_in: StandIn, number: signal.Signals, exit_code: int) -> None:
    up = stand_in.up()
    stand_in.ready(up)
    pids = stand_in.pids()
    up.send_signal(number)
    assert up.wait(60) == exit_code
    assert [pid for pid in pids if not is_gone(pid)] == []
    # The databases were shut down, not killed: a clean shutdown leaves no pid file.
    assert not (stand_in.data / "postgres" / "cluster" / "postmaster.pid").exists()


def test_interrupted_while_starting_it_leaves_nothing_behind(stand_in: StandIn) -> None:
    (stand_in.checkout / "not-ready").touch()
    up = stand_in.up()
    eventually(lambda: stand_in.pids("projector"), "everything is started, and nothing ready")
    pids = stand_in.pids()
    assert {process["state"] for process in stand_in.status()["processes"]} == {"starting"}
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 130
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_killed_it_leaves_nothing_behind_and_starts_again_with_its_data(stand_in: StandIn) -> None:
    up = stand_in.up()
    addresses = stand_in.ready(up)
    with psycopg.connect(addresses["postgres"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    pids = stand_in.pids()
    up.kill()
    up.wait()
    eventually(lambda: all(map(is_gone, pids)), "its processes end")
    assert stand_in.status() == {"processes": [], "supervisor": None}
    assert stand_in.run("status").returncode == 1

    again = stand_in.ready(stand_in.up())
    assert again["postgres"] == addresses["postgres"]
    assert again["mongo"] == addresses["mongo"]
    with psycopg.connect(again["postgres"]) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_killed_and_started_again_at_once_it_waits_for_what_is_still_ending(stand_in: StandIn) -> None:
    up = stand_in.up()
    addresses = stand_in.ready(up)
    up.kill()
    up.wait()
    assert stand_in.ready(stand_in.up())["postgres"] == addresses["postgres"]


def test_killed_with_make_it_leaves_nothing_behind(stand_in: StandIn) -> None:
    command = " ".join(stand_in.command("up"))
    (stand_in.checkout / "Makefile").write_text(f"run:\n\t@exec {command}\n")
    with subprocess.Popen(["/usr/bin/env", "make", "run"], cwd=stand_in.checkout, stdout=subprocess.DEVNULL) as make:
        eventually(lambda: stand_in.run("status").returncode == 0, "everything runs")
        pids = [stand_in.status()["supervisor"], *stand_in.pids()]
        make.kill()
    eventually(lambda: all(map(is_gone, pids)), "its processes end")


def test_a_second_instance_on_the_same_data_is_one_clear_sentence(stand_in: StandIn) -> None:
    assert stand_in.run("up", "--detach").returncode == 0
    for second in (stand_in.run("up"), stand_in.run("up", "--detach")):
        assert second.returncode == 2
        assert second.stderr == (
            f"kata: Another instance is already running on {stand_in.data}:"
            " stop it with `kata down`, or choose another place with --data-dir.\n"
        )
    assert stand_in.run("status").returncode == 0


def test_a_taken_port_is_one_clear_sentence(stand_in: StandIn) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        refused = stand_in.run("up", "--api-port", port)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"kata: Port {port} is taken by another program: stop it,"
        " or choose another port with --api-port (0 takes any free one).\n"
    )


def test_a_killed_projector_is_started_again_on_its_port(stand_in: StandIn) -> None:
    stand_in.run("up", "--detach")
    (killed,) = stand_in.pids("projector")
    before = stand_in.status()["processes"]
    os.kill(killed, signal.SIGKILL)
    eventually(
        lambda: stand_in.pids("projector") not in ([], [killed]) and stand_in.run("status").returncode == 0,
        "the projector runs again",
    )
    ports = [[process["port"] for process in each] for each in (before, stand_in.status()["processes"])]
    assert ports[0] == ports[1]
    assert f"projector-1 (process {killed}) was killed by SIGKILL; its log is" in stand_in.log("kata")


def test_a_program_that_runs_but_is_not_ready_is_a_finding(stand_in: StandIn) -> None:
    stand_in.run("up", "--detach")
    (stand_in.checkout / "not-ready").touch()
    assert stand_in.run("status").returncode == 1
    states = {process["role"]: process["state"] for process in stand_in.status()["processes"]}
    assert states == {"postgres": "running", "mongo": "running", "api": "not ready", "projector": "not ready"}


@pytest.mark.parametrize(("role", "name"), [("postgres", "PostgreSQL"), ("mongo", "mongod")])
def test_when_a_database_dies_everything_is_stopped(stand_in: StandIn, role: str, name: str) -> None:
    up = stand_in.up()
    stand_in.ready(up)
    pids = stand_in.pids()
    (database,) = stand_in.pids(role)
    os.kill(database, signal.SIGKILL)
    assert up.wait(60) == 3
    assert up.stderr is not None
    assert f"kata: {name} (process {database}) was killed by SIGKILL, so everything was stopped" in up.stderr.read()
    assert [pid for pid in pids if not is_gone(pid)] == []


def test_migrations_that_fail_are_told_with_their_last_words(stand_in: StandIn) -> None:
    (stand_in.checkout / "migrations-fail").touch()
    up = stand_in.run("up", "--detach")
    assert up.returncode == 3
    assert up.stderr.startswith("kata: The migrations failed with exit code 1: no such revision (")


def test_roles_that_cannot_be_made_are_told_with_their_last_words(stand_in: StandIn) -> None:
    (stand_in.checkout / "roles-fail").touch()
    up = stand_in.run("up")
    assert up.returncode == 3
    assert up.stderr.startswith("kata: The roles failed with exit code 1: refused (")
    assert stand_in.run("status").returncode == 1


def test_a_program_that_does_not_start_is_told_with_its_last_words(stand_in: StandIn) -> None:
    (stand_in.checkout / "applications-fail").touch()
    up = stand_in.run("up")
    assert up.returncode == 3
    (sentence,) = up.stderr.splitlines()
    assert sentence.startswith("kata: api (process ")
    assert sentence.endswith("Its last words: no such setting")


def test_a_program_that_does_not_get_ready_is_told_with_what_it_waits_for(stand_in: StandIn) -> None:
    (stand_in.checkout / "not-ready").touch()
    stack = stand_in.checkout / "devstack" / "stack.py"
    impatient = stack.read_text().replace("READY_SECONDS = 60.0", "READY_SECONDS = 3.0")
    assert impatient != stack.read_text()
    stack.write_text(impatient)
    up = stand_in.run("up")
    assert up.returncode == 3
    (sentence,) = up.stderr.splitlines()
    says = 'kata: api was not ready after 3 s: /ready answers 503 {"status": "not ready", "mongo": "away"}; its log is '
    assert sentence.startswith(says)


def test_output_that_nobody_reads_any_more_stops_nothing(stand_in: StandIn) -> None:
    up = stand_in.up()
    stand_in.ready(up)
    assert up.stdout is not None
    assert up.stderr is not None
    up.stdout.close()
    up.stderr.close()
    (killed,) = stand_in.pids("projector")
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: stand_in.pids("projector") not in ([], [killed]), "the projector runs again")
    assert up.poll() is None
    up.send_signal(signal.SIGTERM)
    assert up.wait(60) == 0
