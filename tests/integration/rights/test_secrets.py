"""Passwords and tokens are in no log, no answer, no error and no list of processes, whatever goes wrong."""

import base64
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

import psycopg
import pytest
from pymongo import MongoClient
from typer.testing import CliRunner

from api.scripts import roles, seed
from devstack.mongod import Mongod
from projector import cli
from shared.bearer import new_token
from shared.mongo import Document
from shared.rights.postgres import make_roles
from shared.rights.role import Role
from tests.fixtures.roles import Guarded, run
from tests.fixtures.waiting import wait_until
from tests.integration.rights.conftest import Running, running_as

WRONG = "hunter2"
END_SESSIONS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'kata-%'
"""
TOKEN, ENTRY = new_token("ada", ["read", "write", "operate"])
FORGED = TOKEN[:-4] + "AAAA"


class Heard:
    """Everything that was said, by where, and the command lines of every process meanwhile."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def __call__(self, where: str, text: str) -> None:
        self.texts[where] = self.texts.get(where, "") + text

    @contextmanager
    def listing_processes(self) -> Iterator[None]:
        """List them over and over, as anybody on the machine may."""
        done, seen = threading.Event(), set[str]()

        def watch() -> None:
            while not done.is_set():
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    with suppress(OSError):  # it has ended
                        seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                done.wait(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self("processes", "\n".join(seen))


@pytest.fixture(scope="module")
def heard(guarded: Guarded, guarded_mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """What was said in an installation in which everything went wrong that can."""
    heard = Heard()
    environments = [{**guarded.environment(role), "TOKENS": ENTRY.entry()} for role in (Role.API, Role.PROJECTOR)]
    with heard.listing_processes():
        with running_as(tmp_path_factory.mktemp("secrets"), *environments) as running:
            running.projector.wait_ready()
            ask_everything(running, heard, TOKEN, FORGED)
            break_things(guarded, running)
            ask_everything(running, heard, TOKEN)
            heard("the API's log", running.api.log.read_text())
            heard("the projector's log", running.projector.log.read_text())
        heard("roles.py", guarded.make_roles().output)
        run_commands(guarded, heard)
    heard("MongoDB's log", guarded_mongod.log.read_text())
    return heard


def ask_everything(running: Running, heard: Heard, *tokens: str) -> None:
    for name, client in (("api", running.api.client), ("projector", running.projector.http)):
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}"}
            for path in (
                "/ready", "/metrics", "/openapi.json", "/docs", "/items", "/items/x", "/users/1", "/api/overview",
                "/api/access", "/api/dead-letters", "/nowhere",
            ):  # fmt: skip
                answer = client.get(path, headers=headers)
                heard(f"{name} {path}", f"{answer.headers} {answer.text}")
            for body in ({"name": "", "email": 1}, {"name": "Ada", "email": "ada@example.org"}, "x" * 2_000_000):
                answer = client.post("/users", json=body, headers=headers)
                heard(f"{name} POST", f"{answer.headers} {answer.text}")
        # It is not where tokens go, and so is for the log alone not to keep.
        client.get(f"/items?access_token={TOKEN}")


def break_things(guarded: Guarded, running: Running) -> None:
    """Let a table be another than expected, rights be gone, passwords be changed, and sessions end each time."""
    api, projector = (f"{guarded.prefix}_{role}" for role in (Role.API, Role.PROJECTOR))
    ada = {"Authorization": f"Bearer {TOKEN}"}
    with psycopg.connect(guarded.database_url, autocommit=True) as administrator:

        def change(statement: str) -> None:
            administrator.execute(statement.encode())

        change("ALTER TABLE users RENAME COLUMN name TO surname")
        running.api.client.post("/users", json={"name": "Ada", "email": "b@example.org"}, headers=ada)
        change("ALTER TABLE users RENAME COLUMN surname TO name")
        change(f"REVOKE ALL ON outbox, installation FROM {api}, {projector}")
        change(END_SESSIONS)
        wait_until(lambda: "permission denied" in running.projector.log.read_text(), "the projector is refused", 60)
        wait_until(lambda: "connection.lost" in running.api.log.read_text(), "the API is disconnected", 60)
        change(f"ALTER ROLE {api} NOLOGIN")
        change(f"ALTER ROLE {projector} PASSWORD 'another'")
        change(END_SESSIONS)
        wait_until(lambda: "authentication failed" in running.projector.log.read_text(), "it is refused again", 60)
        wait_until(lambda: "not permitted to log in" in running.api.log.read_text(), "and the API", 60)
    with MongoClient[Document](guarded.mongo_url) as client:
        client.admin.command("updateUser", projector, roles=[])


def run_commands(guarded: Guarded, heard: Heard) -> None:
    """Run commands with settings that are wrong, each in its own way."""
    right = {**guarded.administrator, **guarded.environment(Role.PROJECTOR), "CONNECT_TIMEOUT_SECONDS": "1"}
    postgres, mongo, password = right["DATABASE_URL"], right["MONGO_URL"], guarded.password(Role.PROJECTOR)
    of_postgres = [
        {"DATABASE_URL": postgres.replace(password, WRONG)},
        {"DATABASE_URL": f"postgresql://u:{WRONG}@127.0.0.1:1/d"},
        {"DATABASE_URL": f"postgresql://u:{WRONG}@nowhere.invalid/d"},
        {"MAINTENANCE_DATABASE_URL": f"postgresql://u:{WRONG}@127.0.0.1:1/d"},
    ]
    of_mongo = [
        {"MONGO_URL": mongo.replace(password, WRONG)},
        {"MONGO_URL": f"mongodb://u:{WRONG}@127.0.0.1:1/?replicaSet=x"},
        {"MAINTENANCE_MONGO_URL": mongo.replace(password, WRONG)},
    ]
    unreadable = [
        {"DATABASE_URL": f"postgresql://u:{WRONG}@x@h/d"},
        {"DATABASE_URL": f"postgresql://u:{WRONG}%zz@h/d"},
        {"DATABASE_URL": "", "DATABASE_URL_FILE": postgres},
        {"MONGO_URL": f"mongodb://u:{WRONG}@x@h/"},
        {"MONGO_URL": f"mongodb://u:{password}@h/?readPreference={WRONG}"},
        {"TOKENS": TOKEN},
    ]
    for wrong in of_postgres + of_mongo + unreadable:
        for app, command in ((cli.app, "verify"), (cli.app, "doctor --json"), (seed.app, ""), (roles.app, "")):
            done = CliRunner().invoke(app, command.split(), env=right | wrong)
            heard(f"{app.info.help} {command} with {wrong.keys()}", f"{done.output} {done.exception!r}")
    # As processes, whose tracebacks and command lines are their own.
    for script, wrong in (
        (["api/scripts/clean_mongo.py"], of_postgres[0]),
        (["api/scripts/clean_mongo.py"], of_mongo[0]),
        (["-m", "alembic", "current"], of_postgres[0]),
        (["-m", "projector.cli", "run"], unreadable[2]),
        (["-m", "api.main"], unreadable[4]),
    ):
        ended = run([sys.executable, *script], right | wrong)
        assert ended.returncode, script
        heard(f"{script} with {wrong.keys()}", ended.stdout + ended.stderr)


def secrets_of(guarded: Guarded) -> dict[str, str]:
    administrators = {
        name: psycopg.conninfo.conninfo_to_dict(guarded.database_url)["password"]
        if name == "PostgreSQL"
        else guarded.mongo_url.partition("@")[0].rpartition(":")[2]
        for name in ("PostgreSQL", "MongoDB")
    }
    tokens = {"the token": TOKEN, "a forged token": FORGED, "the token's secret": TOKEN.rpartition("_")[2]}
    return {"a wrong one": WRONG, **tokens, **{role: guarded.password(role) for role in Role}, **administrators}


def test_no_secret_was_heard(heard: Heard, guarded: Guarded) -> None:
    assert len(heard.texts) > 50
    found = [
        (secret, where)
        for where, text in heard.texts.items()
        for secret, value in secrets_of(guarded).items()
        if str(value) in text or base64.b64encode(str(value).encode()).decode().rstrip("=") in text
    ]
    assert found == []


def test_enough_went_wrong_to_hear_one(heard: Heard, guarded: Guarded) -> None:
    everything = "\n".join(heard.texts.values())
    for words in (
        "Traceback", "permission denied", "not permitted to log in", "password authentication failed", "not authorized",
        "Authentication failed", "Connection refused", "cannot read the file it names", "option behind its ?",
        "invalid_token", f"{guarded.prefix}_projector", "api.main", "api/scripts/clean_mongo.py",
    ):  # fmt: skip
        assert words in everything, words


def test_a_password_is_sent_to_postgresql_as_its_verifier(guarded: Guarded) -> None:
    with psycopg.connect(guarded.database_url) as connection, TemporaryFile() as sent:
        connection.pgconn.trace(sent.fileno())
        list(make_roles(connection, guarded.prefix, {Role.API: WRONG}))
        connection.pgconn.untrace()
        connection.rollback()
        sent.seek(0)
        text = sent.read().decode(errors="replace")
    assert "PASSWORD 'SCRAM-SHA-256$" in text
    assert WRONG not in text
