"""The embedded mongod alone."""

import json
import socket
import stat
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from devstack import mongod as module
from devstack.errors import ConfigurationError
from devstack.mongod import Mongod
from tests.unit.devstack.stand_in import is_gone


def insert(server: Mongod) -> None:
    with MongoClient[dict[str, object]](server.uri) as client:
        client.test.kept.insert_one({"_id": 7})


def kept(server: Mongod) -> object:
    with MongoClient[dict[str, object]](server.uri) as client:
        return client.test.kept.find_one()


@pytest.fixture(params=[False, True], ids=["without authentication", "with authentication"])
def auth(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_it_is_a_primary_that_runs_transactions(directory: Path, auth: bool) -> None:  # noqa: FBT001 - a fixture
    with Mongod.start(directory / "mongod", auth=auth) as server:
        with MongoClient[dict[str, object]](server.uri) as client, client.start_session() as session:
            session.with_transaction(lambda inside: client.test.kept.insert_one({"_id": 7}, session=inside))
        assert kept(server) == {"_id": 7}
    assert is_gone(server.pid)


def test_a_second_start_keeps_data_and_address(directory: Path, auth: bool) -> None:  # noqa: FBT001 - a fixture
    with Mongod.start(directory, auth=auth) as first:
        insert(first)
    with Mongod.start(directory, auth=auth) as second:
        assert second.uri == first.uri
        assert kept(second) == {"_id": 7}


def test_on_a_new_port_the_replica_set_is_found_again(directory: Path, auth: bool) -> None:  # noqa: FBT001 - a fixture
    with Mongod.start(directory, auth=auth) as first:
        insert(first)
    with socket.create_server(("127.0.0.1", first.port)), Mongod.start(directory, auth=auth) as second:
        assert second.port != first.port
        assert kept(second) == {"_id": 7}
    with Mongod.start(directory, auth=auth) as third:
        assert third.port == second.port


def test_it_survives_a_crash(directory: Path) -> None:
    with Mongod.start(directory) as server:
        insert(server)
        server.kill()
        server.restart()
        assert kept(server) == {"_id": 7}


def test_with_authentication_nobody_gets_in_without_the_password(directory: Path) -> None:
    with Mongod.start(directory, auth=True) as server:
        with (
            MongoClient[dict[str, object]]("127.0.0.1", server.port, directConnection=True) as client,
            pytest.raises(OperationFailure, match="requires authentication"),
        ):
            client.test.kept.find_one()
        password = (directory / "password").read_text().strip()
        assert password in server.uri
        assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
        assert password not in server.log.read_text()
        for secret in ("password", "keyfile"):
            assert stat.S_IMODE((directory / secret).stat().st_mode) == 0o600


def test_parameters_reach_the_server(directory: Path) -> None:
    with (
        Mongod.start(directory, parameters={"enableTestCommands": "1"}) as server,
        MongoClient[dict[str, object]](server.uri) as client,
    ):
        assert client.admin.command("configureFailPoint", "failCommand", mode="off")["ok"] == 1


def test_a_second_server_on_the_same_data_is_one_clear_sentence(directory: Path) -> None:
    with Mongod.start(directory) as server:
        with pytest.raises(ConfigurationError, match=r"already running on .*: stop it first\.$"):
            Mongod.start(directory)
        insert(server)
    with Mongod.start(directory) as again:
        assert again.port == server.port


def test_a_taken_port_that_was_asked_for_is_one_clear_sentence(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(ConfigurationError, match=r"^The port of mongod is taken by another program: .*\.$"):
            Mongod.start(directory, port)


def test_a_missing_libcurl4_is_one_clear_sentence_with_its_remedy(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaint = "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file"
    program = directory / "mongod"
    program.write_text(f"#!/bin/sh\necho {json.dumps(complaint)} >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "mongod_program", lambda: program)
    with pytest.raises(ConfigurationError) as caught:
        Mongod.start(directory / "data")
    assert str(caught.value) == "mongod needs libcurl4, which is missing: apt-get install libcurl4 (Debian, Ubuntu)."
