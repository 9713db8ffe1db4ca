"""`projector doctor` on servers that are away, refuse us, have no primary or lack a majority: all for real."""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from sqlalchemy import make_url

from devstack.mongod import Mongod
from devstack.postgres import SETTINGS
from devstack.scratch import scratch_directory
from projector.doctor import mongo, postgres
from projector.doctor.finding import Finding, Severity
from projector.settings import ProjectorSettings
from shared.mongo import Document
from tests.fixtures.replica_sets import ThreeMemberSet
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, run_cli

Changed = Callable[..., ProjectorSettings]


@pytest.fixture
def changed(settings: ProjectorSettings) -> Changed:
    """Makes settings with other URLs, and a short connect time-out."""

    def change(**urls: str) -> ProjectorSettings:
        secret = {name: SecretStr(url) for name, url in urls.items()}
        return settings.model_copy(update={"connect_timeout_seconds": 2, **secret})

    return change


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    assert json.dumps(dict(found[0].details))
    return found[0]


def test_postgresql_that_is_stopped(own_servers: OwnServers) -> None:
    own_servers.postgres.stop()
    try:
        found = only(list(postgres.reach(own_servers.settings)))
    finally:
        own_servers.postgres.restart()
    assert found.cause.startswith("PostgreSQL cannot be reached: OperationalError: connection failed")
    assert "start it, or correct host and port in DATABASE_URL" in found.remedy
    assert list(postgres.reach(own_servers.settings)) == []


def test_postgresql_that_refuses_our_password_or_database(settings: ProjectorSettings, changed: Changed) -> None:
    url = make_url(settings.database_url.get_secret_value())
    for wrong, words in (
        (url.set(username="nobody"), "authentication failed"),
        (url.set(password="guessed"), "authentication failed"),
        (url.set(database="nowhere"), 'database "nowhere" does not exist'),
    ):
        found = only(list(postgres.reach(changed(database_url=wrong.render_as_string(hide_password=False)))))
        assert found.cause.startswith("PostgreSQL refuses us: OperationalError: ")
        assert words in found.cause
        assert "correct user, password and database in DATABASE_URL" in found.remedy


@pytest.fixture
def poor_role(settings: ProjectorSettings, changed: Changed) -> Iterator[ProjectorSettings]:
    """The settings of a role that may connect to this test's database and read one of its tables."""
    url = settings.database_url.get_secret_value()
    role = f"poor_{secrets.token_hex(4)}"
    name = sql.Identifier(role)
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'poor'").format(name))
        owner.execute(sql.SQL("GRANT SELECT ON users TO {}").format(name))
        _, _, address = url.rpartition("@")
        yield changed(database_url=f"postgresql://{role}:poor@{address}")
        owner.execute(sql.SQL("DROP OWNED BY {}").format(name))
        owner.execute(sql.SQL("DROP ROLE {}").format(name))


def test_postgresql_that_has_no_connection_left_for_us(
    poor_role: ProjectorSettings, settings: ProjectorSettings
) -> None:
    url = poor_role.database_url.get_secret_value()
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as owner, psycopg.connect(url):
        role = sql.Identifier(str(make_url(url).username))
        owner.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT 1").format(role))
        found = only(list(postgres.reach(poor_role)))
    assert found.cause.startswith("PostgreSQL has no connection left for us: ")
    assert "lower DATABASE_POOL_SIZE" in found.remedy


def test_postgresql_that_gives_our_role_no_rights_to_the_tables(
    poor_role: ProjectorSettings, settings: ProjectorSettings
) -> None:
    found = only(list(postgres.grant_rights(poor_role)))
    assert "may not do what a projector must" in found.cause
    assert "DELETE on outbox," in found.cause
    refused = run_cli(poor_role, "status")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "permission denied" in refused.stderr
    grant = found.remedy.split("`")[1]
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as owner:
        owner.execute(grant.encode())
    assert list(postgres.grant_rights(poor_role)) == []


def test_postgresql_that_is_a_standby(own_servers: OwnServers) -> None:
    server = own_servers.postgres
    assert list(postgres.take_writes(own_servers.settings)) == []
    server.stop()
    signal = server.cluster / "standby.signal"
    signal.touch()
    owner = server.cluster.stat()
    os.chown(signal, owner.st_uid, owner.st_gid)
    server.restart()
    try:
        found = only(list(postgres.take_writes(own_servers.settings)))
    finally:
        server.stop()
        signal.unlink()
        server.restart()
    assert found.cause == "PostgreSQL is a standby: it takes no writes"
    assert "name the primary in DATABASE_URL" in found.remedy
    assert "pg_promote()" in found.remedy
    assert list(postgres.take_writes(own_servers.settings)) == []


def test_postgresql_that_is_read_only(own_servers: OwnServers) -> None:
    server, settings = own_servers.postgres, own_servers.settings
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        try:
            wait_until(lambda: list(postgres.take_writes(settings)), "the server is read-only")
            assert "default_transaction_read_only is on" in only(list(postgres.take_writes(settings))).cause
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")
    wait_until(lambda: not list(postgres.take_writes(settings)), "the server takes writes again")


def test_postgresql_that_has_nearly_no_connection_left(own_servers: OwnServers) -> None:
    assert list(postgres.have_connections_left(own_servers.settings)) == []
    most = int(SETTINGS["max_connections"])
    with ExitStack() as stack:
        for _ in range(int(most * postgres.NEARLY_ALL)):
            stack.enter_context(psycopg.connect(own_servers.postgres.dsn, application_name="greedy api"))
        found = only(list(postgres.have_connections_left(own_servers.settings)))
    assert found.severity is Severity.WARNING
    assert f"of PostgreSQL's {most - 3} connections are in use: {int(most * postgres.NEARLY_ALL)} greedy" in found.cause
    assert "DATABASE_POOL_SIZE" in found.remedy


def test_mongodb_that_is_stopped(own_servers: OwnServers) -> None:
    own_servers.mongod.stop()
    try:
        found = only(list(mongo.reach(own_servers.settings)))
    finally:
        own_servers.mongod.restart()
    assert found.cause.startswith("MongoDB cannot be reached: ServerSelectionTimeoutError: ")
    assert found.cause.endswith("Connection refused")
    assert "start it, or correct hosts, port and replicaSet in MONGO_URL" in found.remedy
    assert list(mongo.reach(own_servers.settings)) == []


def test_mongodb_that_was_never_made_a_set(changed: Changed) -> None:
    with scratch_directory() as directory, Mongod.launch(directory / "mongo") as mongod:
        mongod.wait_listening()
        found = only(list(mongo.reach(changed(mongo_url=mongod.uri))))
    assert found.cause == f"MongoDB has no primary: 127.0.0.1:{mongod.port} is in no set"
    assert 'mongosh "$MONGO_URL" --eval "rs.initiate()"' in found.remedy


def test_mongodb_without_a_primary(own_servers: OwnServers) -> None:
    with MongoClient[Document](own_servers.mongod.uri, directConnection=True) as client:
        client.admin.command("replSetStepDown", 60, force=True)
        try:
            found = only(list(mongo.reach(own_servers.settings)))
        finally:
            client.admin.command("replSetFreeze", 0)
    port = own_servers.mongod.port
    assert found.cause == f"MongoDB has no primary: 127.0.0.1:{port} is secondary"
    assert "a majority of the set elects a primary by itself" in found.remedy
    wait_until(lambda: not list(mongo.reach(own_servers.settings)), "it is primary again", 60)


def test_mongodb_that_refuses_our_user(guarded_mongod: Mongod, changed: Changed) -> None:
    right = guarded_mongod.uri
    assert list(mongo.reach(changed(mongo_url=right))) == []
    for wrong, words in (
        (right.replace("kata:", "kata:not"), "Authentication failed"),
        (right.replace(right.partition("//")[2].partition("@")[0] + "@", ""), "requires authentication"),
    ):
        found = only(list(mongo.reach(changed(mongo_url=wrong))))
        assert found.cause.startswith("MongoDB refuses us: OperationFailure: ")
        assert words in found.cause
        assert "correct user, password and authSource in MONGO_URL" in found.remedy


def test_mongodb_that_gives_our_user_too_few_rights(
    guarded_mongod: Mongod, changed: Changed, mongo_database: str
) -> None:
    with MongoClient[Document](guarded_mongod.uri) as client:
        client.admin.command("createUser", "poor", pwd="poor", roles=[{"role": "read", "db": mongo_database}])
        _, _, address = guarded_mongod.uri.rpartition("@")
        settings = changed(mongo_url=f"mongodb://poor:poor@{address}")

        found = only(list(mongo.grant_rights(settings)))

        assert "the MongoDB user poor may not " in found.cause
        assert "insert" in found.details["missing"]
        assert "find" not in found.details["missing"]
        assert "`python api/scripts/roles.py mongo`" in found.remedy
        roles = [{"role": role, "db": mongo_database} for role in ("readWrite", "dbAdmin")]
        client.admin.command("grantRolesToUser", "poor", roles=roles)
        assert list(mongo.grant_rights(settings)) == []
    assert list(mongo.grant_rights(changed(mongo_url=guarded_mongod.uri))) == []


@pytest.mark.slow
def test_mongodb_with_a_member_down_and_with_a_majority_that_does_not_follow(
    three_member_set: ThreeMemberSet, changed: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = changed(mongo_url=three_member_set.uri)

    def causes() -> str | None:
        try:
            return "; ".join(found.cause for found in mongo.be_whole(settings))
        except PyMongoError:  # an election
            return None

    wait_until(lambda: causes() == "", "the whole set has no finding", 60)
    monkeypatch.setattr(mongo, "BEHIND_SECONDS", 1.0)
    with ExitStack() as held:
        for secondary in three_member_set.secondaries:
            held.enter_context(three_member_set.hold_replication(secondary))
        wait_until(causes, "the primary's writes get ahead of its majority", 60)
        wait_until(lambda: "nothing is acknowledged, so nothing is settled" in (causes() or ""), "the cause", 60)

    monkeypatch.undo()
    killed = three_member_set.secondaries[0]
    killed.kill()
    is_down = f"of MongoDB's 3 members {killed.address} is down"
    wait_until(lambda: causes() == is_down, "the member that is down is named", 60)
