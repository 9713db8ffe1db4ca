"""`projector doctor` on what stands in the way inside PostgreSQL: open transactions, locks, slots."""

import json
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from projector.doctor import sessions
from projector.doctor.finding import Finding, NotSeenError
from projector.settings import ProjectorSettings
from shared.postgres import READ_MODELS_LOCK
from tests.fixtures.relays import Outbox
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, ProjectorProcess


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be a finding after seconds is one at once."""
    monkeypatch.setattr(sessions, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(sessions, "SERVER_MARGIN_SECONDS", 0.0)


@pytest.fixture
def impatient(settings: ProjectorSettings) -> ProjectorSettings:
    """The settings of this test's databases, with batches that should take no time."""
    return settings.model_copy(update={"batch_deadline_seconds": 0})


def stranger(settings: ProjectorSettings) -> closing[psycopg.Connection]:
    """Open a session such as somebody leaves open over lunch. It may be ended by others before it is closed."""
    return closing(psycopg.connect(settings.database_url.get_secret_value(), application_name="somebody's psql"))


def remedied(settings: ProjectorSettings, found: Finding) -> str:
    """Run the SQL that the remedy names, and return it."""
    assert json.dumps(dict(found.details))
    statement = found.remedy.split("`")[1]
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        connection.execute(statement.encode())
    return statement


def test_a_session_idle_in_transaction_that_holds_locks(impatient: ProjectorSettings) -> None:
    with stranger(impatient) as session:
        session.execute("SELECT * FROM items")
        (found,) = sessions.leave_no_transaction_open(impatient)
        assert found.details["pid"] == session.info.backend_pid
        assert found.details["application_name"] == "somebody's psql"
        assert f"PostgreSQL's session {session.info.backend_pid} (somebody's psql, " in found.cause
        assert "is idle in a transaction since " in found.cause
        assert "AccessShareLock on items" in found.cause
        assert remedied(impatient, found) == f"SELECT pg_terminate_backend({session.info.backend_pid})"
        wait_until(lambda: not list(sessions.leave_no_transaction_open(impatient)), "the session is ended")


def test_a_session_idle_in_transaction_that_holds_the_xmin_horizon(impatient: ProjectorSettings) -> None:
    with stranger(impatient) as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        session.execute("SELECT 1")
        (found,) = sessions.leave_no_transaction_open(impatient)
        assert "holds the xmin horizon, " in found.cause
        assert "Lock" not in found.cause


def test_a_session_idle_in_transaction_that_holds_nothing_is_nobodys_business(impatient: ProjectorSettings) -> None:
    with stranger(impatient) as session:
        session.execute("SELECT 1")
        assert list(sessions.leave_no_transaction_open(impatient)) == []


def test_a_transaction_that_has_just_begun_is_not_a_finding(settings: ProjectorSettings) -> None:
    with stranger(settings) as session:
        session.execute("SELECT * FROM items")
        assert list(sessions.leave_no_transaction_open(settings)) == []


def test_a_prepared_transaction_left_alone(own_servers: OwnServers) -> None:
    impatient = own_servers.settings.model_copy(update={"batch_deadline_seconds": 0})
    with stranger(impatient) as session:
        session.execute("CREATE TABLE left_alone ()")
        session.execute("PREPARE TRANSACTION 'half done'")
    (found,) = sessions.leave_no_transaction_open(impatient)
    assert "the prepared transaction 'half done' of kata is neither committed nor rolled back" in found.cause
    assert remedied(impatient, found) == "ROLLBACK PREPARED 'half done'"
    assert list(sessions.leave_no_transaction_open(impatient)) == []


def test_a_replication_slot_that_nobody_reads(own_servers: OwnServers) -> None:
    with stranger(own_servers.settings) as session:
        session.execute("SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")
    (found,) = sessions.keep_no_idle_slots(own_servers.settings)
    assert remedied(own_servers.settings, found) == "SELECT pg_drop_replication_slot('left_behind')"
    assert found.cause.startswith("nobody reads the logical slot left_behind: it keeps ")
    assert "of its log and the xmin horizon, " in found.cause
    assert list(sessions.keep_no_idle_slots(own_servers.settings)) == []


def test_a_lock_for_which_a_projector_waits(
    start_projector: Callable[..., ProjectorProcess], settings: ProjectorSettings, outbox: Outbox
) -> None:
    projector = start_projector()
    projector.wait_ready()
    with stranger(settings) as session:
        session.execute("LOCK TABLE outbox_failures IN ACCESS EXCLUSIVE MODE")
        outbox.user(1)
        wait_until(lambda: list(sessions.wait_for_no_lock(settings)), "a lane waits for the lock")
        found = next(iter(sessions.wait_for_no_lock(settings)))
        pid = session.info.backend_pid
        assert "kata-projector " in found.cause
        assert f"for the table outbox_failures, held by PostgreSQL's session {pid} (somebody's psql, " in found.cause
        assert found.cause.endswith("which is idle in transaction")
        assert remedied(settings, found) == f"SELECT pg_terminate_backend({pid})"
        wait_until(lambda: outbox.ids() == [], "the projector goes on")


def test_the_advisory_lock_that_keeps_projectors_out(
    start_projector: Callable[..., ProjectorProcess], settings: ProjectorSettings
) -> None:
    assert list(sessions.wait_for_no_lock(settings)) == []
    with stranger(settings) as session:
        session.execute("SELECT pg_advisory_lock(%s)", (READ_MODELS_LOCK,))
        session.commit()
        (found,) = sessions.wait_for_no_lock(settings)
        pid = session.info.backend_pid
        assert f"session {pid} (somebody's psql, " in found.cause
        assert "keeps every projector out of the read models (an exclusive advisory lock) for " in found.cause

        start_projector()
        wait_until(lambda: "kata-projector" in _causes(settings), "a projector waits for it")
        assert "wait since" in _causes(settings)
        assert f"for an advisory lock, held by PostgreSQL's session {pid} (somebody's psql, " in _causes(settings)
        remedied(settings, found)
        wait_until(lambda: _causes(settings) == "", "nobody waits any more")


def test_an_advisory_lock_that_is_waited_for_because_it_is_held_shared(settings: ProjectorSettings) -> None:
    with stranger(settings) as holder, stranger(settings) as waiter:
        holder.execute("SELECT pg_advisory_xact_lock_shared(%s)", (READ_MODELS_LOCK,))
        assert _causes(settings) == ""
        waiter.execute("SET application_name = 'kata-clean-mongo'")
        waiter.commit()
        # Sent without waiting for the answer, which does not come.
        waiter.pgconn.send_query(f"SELECT pg_advisory_lock({READ_MODELS_LOCK})".encode())
        wait_until(lambda: _causes(settings), "the exclusive request waits")
        assert "kata-clean-mongo wait since" in _causes(settings)
        assert f"held by PostgreSQL's session {holder.info.backend_pid} " in _causes(settings)


def test_sessions_of_other_roles_that_are_not_shown_to_ours(settings: ProjectorSettings) -> None:
    assert list(sessions.hide_nothing(settings)) == []  # a superuser sees them all
    with stranger(settings) as owner:
        owner.execute("CREATE ROLE curious LOGIN PASSWORD 'curious'")
        owner.commit()
        url = make_url(settings.database_url.get_secret_value()).set(username="curious", password="curious")
        curious = settings.model_copy(update={"database_url": SecretStr(url.render_as_string(hide_password=False))})
        try:
            with pytest.raises(NotSeenError, match='`GRANT pg_monitor TO "curious"`'):
                list(sessions.hide_nothing(curious))
            owner.execute("GRANT pg_monitor TO curious")
            owner.commit()
            assert list(sessions.hide_nothing(curious)) == []
        finally:
            owner.rollback()
            owner.execute("DROP ROLE curious")
            owner.commit()


def _causes(settings: ProjectorSettings) -> str:
    return "; ".join(found.cause for found in sessions.wait_for_no_lock(settings))
