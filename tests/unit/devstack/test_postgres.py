"""The embedded PostgreSQL alone."""

import os
import signal
import socket
import stat
from pathlib import Path

import psycopg
import pytest

from devstack.errors import ConfigurationError, ServerError
from devstack.postgres import Postgres
from tests.unit.devstack.stand_in import eventually, is_gone


def test_a_new_directory_becomes_a_server_that_takes_connections(directory: Path) -> None:
    with Postgres.start(directory / "pg") as postgres, psycopg.connect(postgres.dsn) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
    assert is_gone(postgres.pid)


def test_a_second_start_keeps_data_port_and_password(directory: Path) -> None:
    with Postgres.start(directory) as first, psycopg.connect(first.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        connection.commit()
    with Postgres.start(directory) as second, psycopg.connect(second.dsn) as connection:
        assert second.dsn == first.dsn
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_it_survives_a_crash_with_busy_sessions(directory: Path) -> None:
    with Postgres.start(directory) as postgres, psycopg.connect(postgres.dsn) as busy:
        busy.execute("CREATE TABLE kept AS SELECT 7 AS number")
        busy.commit()
        postgres.kill()
        postgres.restart()
        with psycopg.connect(postgres.dsn) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_settings_reach_the_server(directory: Path) -> None:
    with (
        Postgres.start(directory, settings={"fsync": "off", "max_connections": "17"}) as postgres,
        psycopg.connect(postgres.dsn) as connection,
    ):
        assert connection.execute("SHOW max_connections").fetchone() == ("17",)


def test_no_password_no_entry_and_none_on_any_command_line(directory: Path) -> None:
    with Postgres.start(directory) as postgres:
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(postgres.dsn.replace(f":{postgres.password}@", "@"))
        assert postgres.password not in Path(f"/proc/{postgres.pid}/cmdline").read_text()
        assert postgres.password not in postgres.log.read_text()
        assert stat.S_IMODE((directory / "password").stat().st_mode) == 0o600


def test_a_second_server_on_the_same_data_is_one_clear_sentence(directory: Path) -> None:
    with Postgres.start(directory) as postgres:
        with pytest.raises(ConfigurationError, match=r"already running on .*: stop it first\."):
            Postgres.start(directory)
        with psycopg.connect(postgres.dsn):
            pass


def test_a_taken_port_that_was_asked_for_is_one_clear_sentence(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(ConfigurationError, match=r"^The port of PostgreSQL is taken by another program: .*\.$"):
            Postgres.start(directory, port)


def test_a_kept_port_that_is_taken_is_replaced(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        (directory / "port").write_text(str(port))
        with Postgres.start(directory) as postgres, psycopg.connect(postgres.dsn):
            assert postgres.port != port


def test_a_pid_file_whose_number_belongs_to_a_stranger_is_stale(directory: Path) -> None:
    with Postgres.start(directory) as postgres:
        stale = (postgres.cluster / "postmaster.pid").read_text()
    number_of_a_stranger = str(os.getpid())
    pid_file = postgres.cluster / "postmaster.pid"
    pid_file.write_text(stale.replace(str(postgres.pid), number_of_a_stranger, 1))
    with Postgres.start(directory) as again, psycopg.connect(again.dsn):
        pass


def test_a_cluster_whose_making_was_interrupted_is_made_anew(directory: Path) -> None:
    half = directory / "cluster.unfinished"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with Postgres.start(directory) as postgres, psycopg.connect(postgres.dsn):
        assert not half.exists()


def test_a_setting_it_refuses_is_told_with_its_own_words(directory: Path) -> None:
    with pytest.raises(ServerError, match=r"ended with exit code 1 while starting: .*no_such_setting"):
        Postgres.start(directory, settings={"no_such_setting": "1"})


def test_it_stops_when_asked_from_outside(directory: Path) -> None:
    with Postgres.start(directory) as postgres:
        os.kill(postgres.pid, signal.SIGINT)
        assert eventually(lambda: postgres.child.exit_code is not None, "it ended")
        assert postgres.child.exit_code == 0
