"""The small parts: what they believe, and the sentences they say."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import binaries
from devstack.addresses import without_login
from devstack.applications import choose_applications, inherited_environment
from devstack.child import Child
from devstack.complaints import remedy
from devstack.errors import ConfigurationError
from devstack.identity import identity
from devstack.layout import Layout
from devstack.lock import held, is_held
from devstack.ports import free_ports, is_free
from devstack.state import InstanceState, ProcessRecord, State, read_state
from devstack.status import find_out
from tests.unit.devstack.stand_in import eventually, is_gone


def test_a_process_is_known_by_its_start_not_by_its_number_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert identity(other.pid) not in (None, identity(os.getpid()))
        other.kill()
        eventually(lambda: identity(other.pid) is None, "a zombie is dead")


def test_a_recycled_number_is_neither_alive_nor_shown(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    of_a_stranger = ProcessRecord("api", os.getpid(), 8000, State.RUNNING, "another boot:1")
    InstanceState(of_a_stranger, (of_a_stranger,)).write(layout.state)
    assert not of_a_stranger.is_alive
    assert find_out(layout).processes == ()
    with held(layout.lock):
        assert find_out(layout).supervisor is None


def test_what_lives_without_its_supervisor_is_shown_as_orphaned(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    dead = ProcessRecord("supervisor", os.getpid(), None, State.RUNNING, "another boot:1")
    InstanceState(dead, (ProcessRecord.of("api", os.getpid(), 8000, State.RUNNING),)).write(layout.state)
    (orphan,) = find_out(layout).processes
    assert (orphan.pid, orphan.state) == (os.getpid(), State.ORPHANED)
    assert not find_out(layout).is_good


def test_the_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = ProcessRecord.of("api", os.getpid(), 8000, State.RUNNING)
    state = InstanceState(record, (record,))
    state.write(tmp_path / "state.json")
    assert read_state(tmp_path / "state.json") == state


def test_only_one_holds_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "kata.lock"
    assert not is_held(file)
    with held(file):
        assert is_held(file)
        with pytest.raises(ConfigurationError, match=r"^Another instance is already running on .* --data-dir\.$"):
            held(file).__enter__()
    assert not is_held(file)


def test_a_child_dies_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, signal, time, pathlib\n"
        "from devstack.child import Child\n"
        "child = Child.start('sleeper', ['/bin/sleep', '600'], log=pathlib.Path(sys.argv[1]),\n"
        "    environment={}, death_signal=signal.SIGTERM)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.kill()
    eventually(lambda: is_gone(child), "the child ended")


def test_a_child_that_hears_no_signal_is_killed_in_the_end(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()",
    ]
    child = Child.start("deaf", command, log=tmp_path / "log", environment={}, death_signal=signal.SIGKILL)
    eventually(lambda: "1" in child.written(), "it has become deaf")
    assert child.stop((signal.SIGTERM, 0.1)) == -signal.SIGKILL
    assert child.ending == f"deaf (process {child.pid}) was killed by SIGKILL"


def test_a_program_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    child = Child.start("x", ["/no/such/x"], log=tmp_path / "log", environment={}, death_signal=signal.SIGKILL)
    assert child.wait() == 127
    assert remedy("x", child.written()) == (
        "x cannot be executed on this system (/no/such/x: No such file or directory)."
    )


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            "mongod: error while loading shared libraries: libodd.so.1: cannot open",
            "mongod needs the library libodd.so.1: install the package that carries it.",
        ),
        (
            "mongod: /lib/libc.so.6: version `GLIBC_2.34' not found (required by mongod)",
            "mongod needs GLIBC_2.34: Debian 12 or Ubuntu 22.04 have it, this system does not.",
        ),
        ("something nobody has ever seen", None),
    ],
)
def test_a_known_complaint_becomes_a_sentence(written: str, sentence: str | None) -> None:
    assert remedy("mongod", written) == sentence


def test_a_taken_port_names_the_option_that_helps() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        assert not is_free(taken)
        with pytest.raises(ConfigurationError, match=rf"^Port {taken} is taken .* --api-port \(0 takes"):
            choose_applications(taken, 0, 1)
        with pytest.raises(ConfigurationError, match=rf"^Port {taken} is taken .* --projector-port \(0 takes"):
            choose_applications(0, taken, 1)


def test_further_projectors_take_the_next_ports() -> None:
    # Other tests take ports meanwhile, on this machine.
    first = next(port for port in free_ports(50) if is_free(port) and is_free(port + 1))
    applications = choose_applications(0, first, 1)
    assert [application.port for application in applications[1:]] == [first]
    with pytest.raises(ConfigurationError, match="asked for both by the API and by a projector"):
        choose_applications(first + 1, first, 2)
    with pytest.raises(ConfigurationError, match="there is no such port"):
        choose_applications(0, 65535, 2)


def test_a_setting_named_in_a_file_does_not_fight_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", "/run/secrets/url")
    monkeypatch.setenv("LOG_LEVEL_FILE", "/run/level")
    environment = inherited_environment({"DATABASE_URL": "ours"})
    assert environment["DATABASE_URL"] == "ours"
    assert "DATABASE_URL_FILE" not in environment
    assert environment["LOG_LEVEL_FILE"] == "/run/level"


def test_addresses_for_people_have_no_login() -> None:
    assert without_login("mongodb://u:p@127.0.0.1:1/?replicaSet=kata") == "mongodb://127.0.0.1:1"
    assert without_login("postgresql://u:p@127.0.0.1:1/kata") == "postgresql://127.0.0.1:1/kata"


def test_without_the_wheels_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "_inside_package", lambda package, path: None)  # noqa: ARG005 - its signature
    monkeypatch.setattr(binaries, "DEBIAN_CLUSTERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for locate in (binaries.postgres_programs, binaries.mongod_program):
        with pytest.raises(ConfigurationError, match=r"was not found .*make setup.*\.$"):
            locate()


def test_without_the_wheel_debians_newest_postgresql_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "_inside_package", lambda package, path: None)  # noqa: ARG005 - its signature
    monkeypatch.setattr(binaries, "DEBIAN_CLUSTERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "postgres").touch()
    assert binaries.postgres_programs() == tmp_path / "17" / "bin"


def test_a_data_directory_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot be used \(.*\): choose another place with --data-dir\.$"):
        Layout(tmp_path / "file" / "below").prepare()


def test_the_logs_of_the_last_run_are_kept_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.prepare()
    for content in ("one", "two", "three"):
        layout.start_logs_afresh()
        layout.log("api").write_text(content)
    assert layout.log("api").with_name("api.log.old").read_text() == "two"
    assert len(list(layout.logs.iterdir())) == 2
