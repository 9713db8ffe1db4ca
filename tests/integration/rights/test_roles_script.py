"""`python api/scripts/roles.py`: at any time, again and again, by whoever administrates the servers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from pymongo import MongoClient
from sqlalchemy.engine import make_url

import shared.outbox.record  # noqa: F401 - registers the outbox's tables in the metadata
from shared.mongo import Document
from shared.rights.grants import GRANTED, missing_and_excess, relations_of
from shared.rights.role import Role
from shared.rights.tables import SEQUENCES, TABLES
from shared.write_model import METADATA
from tests.fixtures.databases import ROOT
from tests.fixtures.roles import Guarded, drop_roles
from tests.fixtures.runbook import procedure, run_procedure

REVISIONS = [s.revision for s in ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).walk_revisions()][::-1]

OWNERS = """
    SELECT DISTINCT relowner::regrole::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S')
"""


@pytest.fixture
def fresh(guard: Callable[[], Guarded]) -> Guarded:
    """One of this test's own, without roles."""
    return guard()


@pytest.fixture
def administrator(fresh: Guarded) -> Iterator[psycopg.Connection]:
    with psycopg.connect(fresh.database_url, autocommit=True) as connection:
        yield connection


def assert_exact(connection: psycopg.Connection, prefix: str) -> None:
    """Every role has what is declared, and nothing else; all tables are the owner's."""
    for role in GRANTED:
        assert missing_and_excess(connection, prefix, role) == (frozenset(), frozenset()), role
    assert connection.execute(OWNERS).fetchall() == [(Role.MIGRATION.name_in(prefix),)]


def test_every_table_and_sequence_that_is_named_is_one_of_ours_and_no_table_is_forgotten(
    fresh: Guarded, administrator: psycopg.Connection
) -> None:
    assert set(TABLES) == {*METADATA.tables, "alembic_version"}
    assert fresh.make_roles("postgres").exit_code == 0
    fresh.alembic("upgrade", "head")
    relations = relations_of(administrator)
    assert {*TABLES, *SEQUENCES} <= set(relations)
    assert_exact(administrator, fresh.prefix)


def test_the_roles_have_their_rights_at_every_revision_up_and_down(
    fresh: Guarded, administrator: psycopg.Connection
) -> None:
    assert fresh.make_roles("postgres").exit_code == 0
    for step in [*(("upgrade", revision) for revision in REVISIONS), *(("downgrade", "-1") for _ in REVISIONS)]:
        fresh.alembic(*step)
        assert_exact(administrator, fresh.prefix)


def test_tables_that_somebody_else_made_change_hands_and_whoever_migrates_makes_no_others(
    fresh: Guarded, administrator: psycopg.Connection
) -> None:
    as_superuser = {"DATABASE_URL": fresh.database_url}
    fresh.alembic("upgrade", REVISIONS[2], **as_superuser)
    done = fresh.make_roles("postgres")
    assert f"{Role.MIGRATION.name_in(fresh.prefix)}: owns outbox now" in done.stdout, done.stderr
    assert_exact(administrator, fresh.prefix)

    fresh.alembic("upgrade", "head", **as_superuser)

    assert_exact(administrator, fresh.prefix)
    fresh.alembic("downgrade", "base")


def test_a_second_run_changes_nothing_and_what_was_changed_by_hand_is_put_right(
    fresh: Guarded, administrator: psycopg.Connection
) -> None:
    without = dict.fromkeys((f"{role.upper()}_PASSWORD" for role in Role), "")
    assert fresh.make_roles().exit_code == 0
    fresh.alembic("upgrade", "head")
    again = fresh.make_roles(**without)
    assert again.stdout == "PostgreSQL: all is as it should be\nMongoDB: all is as it should be\n", again.stderr

    api, projector = (sql.Identifier(role.name_in(fresh.prefix)) for role in (Role.API, Role.PROJECTOR))
    administrator.execute(sql.SQL("GRANT UPDATE, TRUNCATE ON outbox TO {}").format(api))
    administrator.execute(sql.SQL("REVOKE DELETE ON outbox FROM {}").format(projector))
    administrator.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(projector))
    with MongoClient[Document](fresh.mongo_url) as client:
        name, database = Role.API.name_in(fresh.prefix), fresh.mongo_database
        wider = [{"resource": {"db": database, "collection": ""}, "actions": ["find", "insert"]}]
        client[database].command("updateRole", name, privileges=wider)
        client.admin.command("grantRolesToUser", name, roles=["root"])
    done = fresh.make_roles(**without)

    assert done.stdout.splitlines() == [
        f"PostgreSQL: {fresh.prefix}_projector: may no longer what only administrators may",
        f"PostgreSQL: {fresh.prefix}_api: 1 rights granted, 2 revoked",
        f"PostgreSQL: {fresh.prefix}_projector: 1 rights granted, 0 revoked",
        f"MongoDB: {fresh.prefix}_api: role changed",
        f"MongoDB: {fresh.prefix}_api: user has its role, and no other",
    ]
    assert_exact(administrator, fresh.prefix)
    assert fresh.make_roles(**without).stdout == again.stdout


def test_a_password_that_is_given_is_set_and_one_that_is_not_stays(fresh: Guarded) -> None:
    passwords = {f"{role.upper()}_PASSWORD": "" for role in Role}
    assert fresh.make_roles().exit_code == 0

    done = fresh.make_roles(**{**passwords, "API_PASSWORD": "another/one:@%"})

    name = Role.API.name_in(fresh.prefix)
    assert done.stdout.splitlines() == [f"PostgreSQL: {name}: password set", f"MongoDB: {name}: password set"]
    url = make_url(fresh.postgres_url(Role.API)).set(password="another/one:@%")
    psycopg.connect(url.render_as_string(hide_password=False)).close()
    with MongoClient[Document](fresh.mongo_url, username=name, password="another/one:@%") as client:
        client[fresh.mongo_database].items_read.find_one()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(fresh.postgres_url(Role.API))
    psycopg.connect(fresh.postgres_url(Role.PROJECTOR)).close()


def test_a_new_role_without_a_password_is_not_made_and_nothing_else_is(fresh: Guarded) -> None:
    for server, name in (("postgres", "PostgreSQL"), ("mongo", "MongoDB")):
        done = fresh.make_roles(server, MAINTENANCE_PASSWORD="")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"MAINTENANCE_PASSWORD: needed, for the role is new in {name}\n"
    with psycopg.connect(fresh.database_url) as connection:
        (row,) = connection.execute("SELECT count(*) FROM pg_roles WHERE starts_with(rolname, %s)", (fresh.prefix,))
    assert row == (0,)


def test_whoever_is_no_administrator_is_refused_in_one_sentence(fresh: Guarded) -> None:
    assert fresh.make_roles().exit_code == 0
    for server, sentence in (
        ("postgres", "PostgreSQL refused, DATABASE_URL must name an administrator: permission denied"),
        ("mongo", "MongoDB refused, MONGO_URL must name an administrator: not authorized"),
    ):
        done = fresh.make_roles(server, **fresh.environment(Role.API))
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith(sentence)
        assert len(done.stderr.splitlines()) == 1
    away = fresh.make_roles("postgres", DATABASE_URL="postgresql://a:b@127.0.0.1:1/d", CONNECT_TIMEOUT_SECONDS="1")
    assert (away.exit_code, away.stderr.partition(":")[0]) == (3, "PostgreSQL could not be reached")


def test_the_owner_of_the_database_is_enough_when_he_may_create_roles(
    fresh: Guarded, administrator: psycopg.Connection, postgres_dsn: str
) -> None:
    """As on servers that others run: nobody there is a superuser."""
    owner, database = sql.Identifier(f"{fresh.prefix}_dba"), sql.Identifier(administrator.info.dbname)
    administrator.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'dba'").format(owner))
    administrator.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner))
    url = make_url(fresh.database_url).set(username=f"{fresh.prefix}_dba", password="dba")
    as_owner = {"DATABASE_URL": url.render_as_string(hide_password=False)}
    try:
        fresh.alembic("upgrade", REVISIONS[3], **as_owner)
        done = fresh.make_roles("postgres", **as_owner)
        assert done.exit_code == 0, done.stderr
        assert "not in pg_monitor, which only a superuser may grant" in done.stdout
        assert_exact(administrator, fresh.prefix)
        fresh.alembic("upgrade", "head")
        fresh.alembic("downgrade", "-1", **as_owner)
        assert_exact(administrator, fresh.prefix)
        assert "password set" in fresh.make_roles("postgres", **as_owner).stdout
    finally:
        administrator.close()
        drop_roles(postgres_dsn, fresh)
        with psycopg.connect(postgres_dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(owner))


def test_migrations_under_a_role_that_owns_nothing_say_which_setting_is_wrong(
    fresh: Guarded, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fresh.make_roles("postgres").exit_code == 0
    fresh.alembic("upgrade", "head")

    with pytest.raises(SystemExit) as ended:
        fresh.alembic("downgrade", "base", **fresh.environment(Role.API))

    assert ended.value.code == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        "PostgreSQL refused, nothing was changed; MIGRATION_DATABASE_URL, or else DATABASE_URL, must name the owner of "
        "the tables: permission denied for table alembic_version"
    )


def test_a_dump_that_is_restored_brings_the_rights_along(
    fresh: Guarded, administrator: psycopg.Connection, tmp_path: Path
) -> None:
    assert fresh.make_roles("postgres").exit_code == 0
    fresh.alembic("upgrade", "head")
    environment = {"DATABASE_URL": fresh.database_url, "DUMP": str(tmp_path / "kata.dump")}
    for commands in (procedure("Backups"), procedure("Restoring PostgreSQL", 0)):
        done = run_procedure(commands.replace("kata.dump", '"$DUMP"'), environment)
        assert done.returncode == 0, done.stderr
    assert_exact(administrator, fresh.prefix)
    assert fresh.make_roles("postgres").exit_code == 0
    assert_exact(administrator, fresh.prefix)
    fresh.alembic("downgrade", "base")


def test_the_runbooks_commands_make_the_roles(fresh: Guarded, administrator: psycopg.Connection) -> None:
    made = run_procedure(procedure("Roles", 0), fresh.administrator)
    assert made.returncode == 0, made.stderr
    assert f"{fresh.prefix}_api: user made" in made.stdout
    told = {
        **fresh.environment(Role.PROJECTOR),
        **fresh.maintenance,
        "MIGRATION_DATABASE_URL": fresh.postgres_url(Role.MIGRATION),
    }
    looked = run_procedure(procedure("Roles", 1), told)
    assert "Found: 1." in looked.stdout, "no projector runs, and nothing else is wrong"
    assert "ERROR  projectors" in looked.stdout, looked.stdout + looked.stderr
    assert_exact(administrator, fresh.prefix)
