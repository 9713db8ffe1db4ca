"""Whether a database was prepared: asked of the database itself."""

from pathlib import Path

import psycopg

from devstack.postgres import Postgres
from devstack.preparation import ensure_database, is_prepared, remember_prepared


def test_a_database_is_prepared_while_it_is_where_it_was_when_that_was_remembered(directory: Path) -> None:
    mark = directory / "prepared"
    with Postgres.start(directory / "pg") as postgres:
        ensure_database(postgres.dsn, "kata")
        dsn = postgres.dsn_of("kata")
        assert not is_prepared(dsn, mark), "nobody has prepared it"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE alembic_version AS SELECT '0002' AS version_num")
            remember_prepared(dsn, mark)
            assert is_prepared(dsn, mark)

            connection.execute("UPDATE alembic_version SET version_num = '0001'")
            assert not is_prepared(dsn, mark), "somebody went back a migration"
            connection.execute("DROP TABLE alembic_version")
            assert not is_prepared(dsn, mark), "somebody dropped the tables"
