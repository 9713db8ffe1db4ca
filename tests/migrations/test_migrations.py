"""Migrations: each goes up, down and up again, and together they make what the models say."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.fixtures.databases import ROOT

CONFIG = Config(ROOT / "alembic.ini")
REVISIONS = [script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions()]

# Everything of ours that a schema can hold.
OBJECTS = """
    SELECT 'relation', relname::text, relkind::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'option', relname::text, unnest(reloptions) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'constraint', conname::text, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'column', table_name || '.' || column_name,
        concat_ws(' ', data_type, is_nullable, column_default, datetime_precision) FROM information_schema.columns
    WHERE table_schema = 'public'
    UNION ALL SELECT 'type', typname::text, typtype::text FROM pg_type
    WHERE typnamespace = 'public'::regnamespace AND typtype <> 'c' AND typelem = 0
    UNION ALL SELECT 'function', proname::text, pg_get_functiondef(oid) FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace
"""

COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, identity_generation, '')
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
CONSTRAINTS = """
    SELECT relname, conname, pg_get_constraintdef(constraints.oid)
    FROM pg_class JOIN pg_constraint AS constraints ON conrelid = pg_class.oid
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND contype <> 'n'
      AND relname <> 'alembic_version'
"""


@pytest.fixture
def empty(create_database: Callable[[str | None], str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The DSN of a database that nothing has been done to, and that `command` works on."""
    database_url = create_database(None)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


@pytest.fixture
def connection(empty: str) -> Iterator[psycopg.Connection]:
    """A connection to it."""
    with psycopg.connect(empty, autocommit=True) as connection:
        yield connection


def objects(connection: psycopg.Connection) -> set[tuple[str, ...]]:
    """Return everything in the schema but Alembic's own table."""
    return {row for row in connection.execute(OBJECTS) if "alembic_version" not in row[1]}


def test_every_revision_goes_up_down_and_up_again(empty: str, connection: psycopg.Connection) -> None:
    for revision in reversed(REVISIONS):
        before = objects(connection)
        command.upgrade(CONFIG, revision)
        made = objects(connection)
        assert made > before
        command.downgrade(CONFIG, "-1")
        assert objects(connection) == before
        command.upgrade(CONFIG, revision)
        assert objects(connection) == made
    command.check(CONFIG)
    command.downgrade(CONFIG, "base")
    assert objects(connection) == set()
    assert connection.execute("SELECT * FROM alembic_version").fetchall() == []


def test_the_code_that_runs_goes_on_while_and_after_the_next_revision_comes(
    empty: str, connection: psycopg.Connection
) -> None:
    """Migrations come first in a deploy: code that knows nothing of a revision reads and writes as before."""
    for revision in reversed(REVISIONS):
        columns, constraints = of_tables(connection, COLUMNS), of_tables(connection, CONSTRAINTS)
        command.upgrade(CONFIG, revision)
        columns_after, constraints_after = of_tables(connection, COLUMNS), of_tables(connection, CONSTRAINTS)
        for table in columns:
            assert columns_after[table] >= columns[table], "no column goes or changes"
            added = columns_after[table] - columns[table]
            assert all(nullable == "YES" or default for _, _, nullable, default in added), "an INSERT without it works"
            assert constraints_after[table] <= constraints[table], "nothing is refused that was accepted"


def of_tables(connection: psycopg.Connection, statement: str) -> dict[str, set[tuple[str, ...]]]:
    """Return what a statement says of each table of ours."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for table, *row in connection.execute(statement.encode()):
        found.setdefault(table, set()).add(tuple(row))
    return found


def test_there_is_one_line_of_revisions() -> None:
    scripts = ScriptDirectory.from_config(CONFIG)
    assert len(scripts.get_heads()) == len(scripts.get_bases()) == 1
    assert not Path(ROOT / "alembic" / "__init__.py").exists()


def test_an_upgrade_makes_a_new_installation_each_time(empty: str, connection: psycopg.Connection) -> None:
    seen = set()
    for _ in range(2):
        command.upgrade(CONFIG, "head")
        seen |= set(connection.execute("SELECT id, has_read_models FROM installation").fetchall())
        command.upgrade(CONFIG, "head")  # nothing to do: nothing changes
        seen |= set(connection.execute("SELECT id, has_read_models FROM installation").fetchall())
        command.downgrade(CONFIG, "base")
    assert len(seen) == 2
    assert {has_read_models for _, has_read_models in seen} == {False}


def test_the_sql_can_be_printed_and_run_by_hand(empty: str, connection: psycopg.Connection) -> None:
    printed = run(empty, "upgrade", "head", "--sql")
    assert objects(connection) == set()
    connection.execute(printed.stdout)  # type: ignore[call-overload] - the printed SQL is no literal
    by_hand = objects(connection)
    command.downgrade(CONFIG, "base")
    command.upgrade(CONFIG, "head")
    assert objects(connection) == by_hand


def run(database_url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run alembic, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT, env=os.environ | {"DATABASE_URL": database_url} | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_migration_that_waits_for_a_lock_gives_up_and_changes_nothing(
    empty: str, connection: psycopg.Connection
) -> None:
    command.upgrade(CONFIG, "head")
    before = objects(connection)
    with psycopg.connect(empty) as other:
        other.execute("SELECT FROM users")
        done = run(empty, "-x", "lock_timeout=100ms", "downgrade", "base")
        assert (done.returncode, done.stderr) == (1, "A table was in use for 100ms, nothing was changed: try again\n")
        other.rollback()
    assert objects(connection) == before
    command.downgrade(CONFIG, "base")
    assert objects(connection) == set()


def test_two_migrations_at_once_make_one_schema(empty: str, connection: psycopg.Connection) -> None:
    migrations = [
        subprocess.Popen(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            cwd=ROOT, env=os.environ | {"DATABASE_URL": empty}, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    codes = sorted(migration.wait(60) for migration in migrations)
    for migration in migrations:
        assert migration.stderr
        migration.stderr.close()
    assert codes[0] == 0
    assert connection.execute("SELECT count(*) FROM installation").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_an_unreachable_server_is_one_sentence() -> None:
    done = run("postgresql://u:hunter2@127.0.0.1:1/d", "upgrade", "head", CONNECT_TIMEOUT_SECONDS="1")
    assert done.returncode == 3
    assert done.stderr.startswith("PostgreSQL cannot be reached, check DATABASE_URL: ")
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr


def test_a_wrong_setting_is_one_sentence() -> None:
    done = run("mysql://u:hunter2@h/d", "upgrade", "head")
    assert done.returncode == 2
    assert done.stderr.startswith("DATABASE_URL: expected ")
    assert "hunter2" not in done.stderr
