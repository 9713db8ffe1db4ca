"""TLS to both servers, by what DATABASE_URL and MONGO_URL say: every connection of the product honours it.

Both servers refuse whoever comes in clear, so whatever works here is encrypted. Whoever trusts somebody else than the
servers' certificates come from must not connect at all: none of his connections passes the check over.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result
from pymongo import MongoClient
from typer.testing import CliRunner

from api.scripts import seed
from projector import cli
from projector.doctor import mongo, postgres
from projector.doctor.checks import CHECKS
from projector.doctor.examine import examine
from projector.settings import ProjectorSettings
from shared.rights.role import Role
from tests.fixtures.clients import item_body
from tests.fixtures.roles import run
from tests.fixtures.tls import Encrypted
from tests.fixtures.waiting import wait_until
from tests.integration.rights.conftest import running_as

MONGO_REASON = "certificate verify failed: self-signed certificate in certificate chain"


@pytest.fixture(scope="module", autouse=True)
def migrated(encrypted: Encrypted) -> None:
    encrypted.alembic("upgrade", "head")


def settings_of(environment: dict[str, str]) -> ProjectorSettings:
    return ProjectorSettings(
        **{"disk_free_percent_least": 0, **{name.lower(): value for name, value in environment.items()}}
    )


def projector(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(cli.app, arguments, env=environment)


def test_the_main_job(encrypted: Encrypted, tmp_path: Path) -> None:
    commands = {**encrypted.environment(Role.PROJECTOR), **encrypted.maintenance}
    with running_as(tmp_path, encrypted.environment(Role.API), encrypted.environment(Role.PROJECTOR)) as running:
        running.projector.wait_ready()
        client = running.api.client
        user = client.post("/users", json={"name": "Ada", "email": "ada@example.org"})
        assert user.status_code == 201, user.text
        item = client.post("/items", json=item_body(user.json()["id"]))
        token = {"Consistency-Token": item.headers["Consistency-Token"]}
        assert client.get(item.headers["Location"], headers=token).json() == item.json()
        assert client.get("/ready").json()["status"] == "ready"
        assert CliRunner().invoke(seed.app, [], env=encrypted.environment(Role.API)).exit_code == 0
        wait_until(lambda: json.loads(projector("status", "--json", **commands).stdout)["backlog"] == 0, "settled", 60)

        assert examine(CHECKS, settings_of(commands)).findings == {}
        cleaned = run([sys.executable, "api/scripts/clean_mongo.py"], commands)
        assert cleaned.returncode == 0, cleaned.stderr
        replayed = projector("replay", "--json", **commands)
        assert replayed.exit_code == 0, replayed.output
        assert projector("verify", "--deep", **commands).stdout.startswith("No drift")
        assert running.projector.end() == 0


def test_whoever_trusts_somebody_else_does_not_connect_and_says_why(encrypted: Encrypted, tmp_path: Path) -> None:
    api, relay = encrypted.suspicious(Role.API), encrypted.suspicious(Role.PROJECTOR)
    with running_as(
        tmp_path, {**api, "CONNECT_TIMEOUT_SECONDS": "2"}, {**relay, "CONNECT_TIMEOUT_SECONDS": "2"}
    ) as running:
        ready = running.api.client.get("/ready")
        assert ready.status_code == 503
        for server in ("postgres", "mongo"):
            assert ready.json()[server].endswith(": certificates: the server's is not trusted, or it asks for ours)")
        assert running.api.client.get("/items").json()["type"] == "urn:kata:problem:store-away"
        wait_until(lambda: "certificate verify failed" in running.projector.reasons(), "the lanes say why", 60)
        assert running.projector.ready().status_code == 503
        lost = {
            str(line["connection"]): str(line["error"])
            for line in running.api.lines()
            if line["event"] == "connection.lost"
        }
        assert all("certificate verify failed" in error for error in lost.values())
        assert {"settlements.listener", "settlements.check", "waker"} <= set(lost)
        wait_until(lambda: connected(encrypted) == [], "nobody of ours is connected", 60)


def connected(encrypted: Encrypted) -> list[str]:
    """Return which processes of ours the servers know of."""
    with psycopg.connect(encrypted.database_url) as connection:
        rows = connection.execute("SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'kata-%'")
        found = [str(name) for (name,) in rows]
    with MongoClient[dict[str, Any]](encrypted.trusting(encrypted.mongo_url)) as client:
        sessions = client.admin.aggregate([{"$currentOp": {"allUsers": True, "idleConnections": True}}])
        return found + [name for each in sessions if (name := str(each.get("appName", ""))).startswith("kata-")]


Command = Callable[[dict[str, str]], tuple[int, str]]


def in_this_process(app: Any, *arguments: str) -> Command:
    def invoke(environment: dict[str, str]) -> tuple[int, str]:
        done = CliRunner().invoke(app, arguments, env=environment)
        return done.exit_code, done.stderr

    return invoke


def as_process(*arguments: str) -> Command:
    def start(environment: dict[str, str]) -> tuple[int, str]:
        done = run([sys.executable, *arguments], environment)
        return done.returncode, done.stderr

    return start


COMMANDS: dict[str, Command] = {
    "alembic upgrade head": as_process("-m", "alembic", "upgrade", "head"),
    "clean_mongo.py": as_process("api/scripts/clean_mongo.py"),
    "seed.py": in_this_process(seed.app),
    **{
        line: in_this_process(cli.app, *line.split())
        for line in ("status", "verify", "verify --repair", "replay", "replay --cancel", "dead-letters list")
    },
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_postgresql_that_it_does_not_trust(encrypted: Encrypted, command: str) -> None:
    code, error = COMMANDS[command]({**encrypted.suspicious(Role.PROJECTOR), "CONNECT_TIMEOUT_SECONDS": "2"})
    assert code == 3
    assert error.startswith(("PostgreSQL could not be reached: ", "PostgreSQL cannot be reached, check DATABASE_URL: "))
    assert "certificate verify failed" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("command", ["clean_mongo.py", "verify", "replay"])
def test_nor_is_a_mongodb_that_is_not_trusted(encrypted: Encrypted, command: str) -> None:
    trusted = {"DATABASE_URL": encrypted.postgres_url(Role.MAINTENANCE), "CONNECT_TIMEOUT_SECONDS": "2"}
    code, error = COMMANDS[command]({**encrypted.suspicious(Role.MAINTENANCE), **trusted})
    assert code == 3
    assert error.startswith("MongoDB could not be reached: ")
    assert MONGO_REASON in error


def test_the_doctor_says_what_is_not_trusted_and_which_setting_names_whom_to_trust(encrypted: Encrypted) -> None:
    settings = settings_of({**encrypted.suspicious(Role.PROJECTOR), "CONNECT_TIMEOUT_SECONDS": "2"})
    (found,) = postgres.reach(settings)
    assert found.cause.startswith("PostgreSQL cannot be trusted, or does not trust us: ")
    assert "certificate verify failed" in found.cause
    assert found.remedy.startswith("sslrootcert in DATABASE_URL must name ")
    (found,) = mongo.reach(settings)
    assert found.cause.startswith("MongoDB cannot be trusted, or does not trust us: ")
    assert MONGO_REASON in found.cause
    assert found.remedy.startswith("tlsCAFile in MONGO_URL must name ")


def test_a_certificate_for_another_host_is_none(encrypted: Encrypted) -> None:
    """Both certificates are for 127.0.0.1."""
    localhost = encrypted.mongo_url_of(Role.PROJECTOR).replace("@127.0.0.1", "@localhost")
    settings = settings_of(
        {
            **encrypted.environment(Role.PROJECTOR),
            "DATABASE_URL": encrypted.postgres_url(Role.PROJECTOR, host="localhost"),
            # Else the driver goes to the address that the set knows of.
            "MONGO_URL": localhost.replace("replicaSet=kata", "directConnection=true"),
            "CONNECT_TIMEOUT_SECONDS": "2",
        }
    )
    (found,) = postgres.reach(settings)
    assert 'does not match host name "localhost"' in found.cause
    (found,) = mongo.reach(settings)
    assert "Hostname mismatch, certificate is not valid for 'localhost'" in found.cause


def test_whoever_shows_no_certificate_where_one_is_asked_for_is_told(encrypted: Encrypted) -> None:
    bare = encrypted.mongo_url_of(Role.PROJECTOR).partition("&tlsCertificateKeyFile")[0]
    settings = settings_of(
        {
            **encrypted.environment(Role.PROJECTOR),
            "DATABASE_URL": encrypted.postgres_url(Role.PROJECTOR).partition("&sslcert")[0],
            "MONGO_URL": bare,
            "CONNECT_TIMEOUT_SECONDS": "2",
        }
    )
    (found,) = postgres.reach(settings)
    assert found.cause.startswith("PostgreSQL cannot be trusted, or does not trust us: ")
    assert "connection requires a valid client certificate" in found.cause
    (found,) = mongo.reach(settings)
    assert found.cause.startswith("MongoDB cannot be "), found.cause
