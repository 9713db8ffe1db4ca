"""`projector doctor` on what is around the servers: clocks, disks, notifications."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from devstack.environment import server_environment
from devstack.ports import HOST, accepts_connections, choose_port
from projector.doctor import postgres, surroundings
from projector.doctor.finding import Finding, NotSeenError, Severity
from projector.relay import Relay
from projector.settings import ProjectorSettings
from tests.fixtures.databases import ROOT
from tests.fixtures.programs import program
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, environment_of


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    assert json.dumps(dict(found[0].details))
    return found[0]


def test_clocks_that_agree(settings: ProjectorSettings) -> None:
    assert list(surroundings.agree_on_the_time(settings)) == []


def test_this_machines_clock_is_apart(settings: ProjectorSettings) -> None:
    command = [program("faketime", "faketime"), "-f", "+1h", sys.executable, "-m", "projector.cli"]
    done = subprocess.run(
        [*command, "doctor", "--json"],
        cwd=ROOT, env=environment_of(settings), check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    found = {finding["check"]: finding for finding in json.loads(done.stdout.splitlines()[-1])["findings"]}
    assert found["clocks"]["cause"].startswith(
        "clocks are apart: this machine's is 3600.0 s ahead of PostgreSQL's and "
    )
    assert found["clocks"]["severity"] == "warning"
    assert "`timedatectl set-ntp true`" in found["clocks"]["remedy"]


def test_the_clock_of_a_server_is_apart(own_servers: OwnServers, monkeypatch: pytest.MonkeyPatch) -> None:
    # Behind, because MongoDB's own time never goes back: later tests would find it in the future.
    environment = server_environment() | faketime_environment(program("faketime", "faketime"))
    with monkeypatch.context() as patch:
        patch.setattr("devstack.mongod.server_environment", lambda: environment)
        own_servers.mongod.restart()
    try:
        found = only(list(surroundings.agree_on_the_time(own_servers.settings)))
    finally:
        own_servers.mongod.restart()
    assert found.cause.startswith("clocks are apart: MongoDB's is 3")
    assert found.cause.endswith(" s behind this machine's")
    assert found.details["ahead_seconds"]["MongoDB"] == pytest.approx(-3600, abs=5)
    assert list(surroundings.agree_on_the_time(own_servers.settings)) == []


def faketime_environment(faketime: str) -> dict[str, str]:
    """Return what `faketime` sets for the programs it starts; the server's own clock for intervals stays real."""
    shown = subprocess.run([faketime, "-f", "-1h", "env"], check=True, capture_output=True, text=True).stdout
    variables = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return {name: variables[name] for name in ("LD_PRELOAD", "FAKETIME")} | {
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }


def test_disks_with_less_room_than_they_should_have(settings: ProjectorSettings, relay: Relay) -> None:
    with pytest.raises(NotSeenError, match="there are no read models yet"):
        list(surroundings.have_disk_left_for_mongo(settings))
    relay.run_once()
    roomy = settings.model_copy(update={"disk_free_percent_least": 0})
    assert list(surroundings.have_disk_left_for_mongo(roomy)) == []
    full = settings.model_copy(update={"disk_free_percent_least": 100})
    found = only(list(surroundings.have_disk_left_for_mongo(full)))
    assert found.cause.startswith("the disk of MongoDB's data is nearly full: ")
    assert found.cause.endswith("at least 100% should be")
    assert found.severity is Severity.WARNING
    assert 0 < found.details["free_bytes"] < found.details["total_bytes"]


def test_the_disk_of_postgresql_is_seen_where_its_data_are(own_servers: OwnServers) -> None:
    full = own_servers.settings.model_copy(update={"disk_free_percent_least": 100})
    found = only(list(surroundings.have_disk_left_for_postgres(full)))
    assert found.cause.startswith("the disk of PostgreSQL's data is nearly full: ")
    usage = shutil.disk_usage(own_servers.postgres.cluster)
    assert found.details["total_bytes"] == usage.total


def test_the_disk_of_a_postgresql_elsewhere_is_not_seen(
    own_servers: OwnServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "global").mkdir()
    (tmp_path / "global" / "pg_control").write_bytes(b"\x01" * 8)
    monkeypatch.setattr(
        surroundings, "DATA_DIRECTORY",
        surroundings.DATA_DIRECTORY.replace("current_setting('data_directory', true)", f"'{tmp_path}'"),
    )  # fmt: skip
    with pytest.raises(NotSeenError, match="not to be seen from here"):
        list(surroundings.have_disk_left_for_postgres(own_servers.settings))


@contextmanager
def pooling(directory: Path, settings: ProjectorSettings, ignored: str) -> Iterator[ProjectorSettings]:
    """Run a pgbouncer that pools transactions in front of PostgreSQL; yield settings that lead through it."""
    server = conninfo_to_dict(settings.database_url.get_secret_value())
    port = choose_port(directory.with_suffix(".port"), 0)
    directory.mkdir(mode=0o755)
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(
        f"""
        [databases]
        * = host={server["host"]} port={server["port"]} user={server["user"]} password={server["password"]}
        [pgbouncer]
        listen_addr = {HOST}
        listen_port = {port}
        unix_socket_dir =
        auth_type = any
        pool_mode = transaction
        ignore_startup_parameters = {ignored}
        {"user = nobody" if os.geteuid() == 0 else ""}
        """.replace("        ", "")
    )
    log = (directory / "log").open("wb")
    pooler = subprocess.Popen([program("pgbouncer", "pgbouncer"), configuration], stderr=log)
    try:
        wait_until(lambda: accepts_connections(port) or pooler.poll() is not None, "pgbouncer listens")
        assert pooler.poll() is None, (directory / "log").read_text()
        url = f"postgresql://{server['user']}@{HOST}:{port}/{server['dbname']}"
        yield settings.model_copy(update={"database_url": SecretStr(url)})
    finally:
        pooler.terminate()
        pooler.wait(20)
        log.close()


def test_notifications_that_do_not_arrive(
    settings: ProjectorSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(surroundings.receive_notifications(settings)) == []
    monkeypatch.setattr(surroundings, "ARRIVAL_SECONDS", 1.0)
    with pooling(tmp_path / "pooler", settings, "options, extra_float_digits") as pooled:
        assert list(postgres.reach(pooled)) == []
        found = only(list(surroundings.receive_notifications(pooled)))
    assert found.cause.startswith("notifications do not arrive: ")
    assert "name PostgreSQL itself in DATABASE_URL" in found.remedy


def test_a_pooler_that_does_not_even_take_our_settings(settings: ProjectorSettings, tmp_path: Path) -> None:
    with pooling(tmp_path / "pooler", settings, "extra_float_digits") as pooled:
        found = only(list(postgres.reach(pooled)))
    assert found.cause.startswith("DATABASE_URL leads to a connection pooler: ")


def test_a_notification_passes_this_machines_sessions(settings: ProjectorSettings) -> None:
    with psycopg.connect(settings.database_url.get_secret_value()) as idle:
        idle.execute("SELECT 1")  # a transaction elsewhere does not hold it up
        assert list(surroundings.receive_notifications(settings)) == []
