"""Invariant 4: settled only after MongoDB acknowledged with w:majority, j:true."""

import os
import signal
from collections.abc import Callable
from itertools import count

import psycopg
import pytest
from pymongo.errors import BulkWriteError, PyMongoError

from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.relay import Relay
from shared.mongo import create_client, read_model_database
from shared.postgres import connect
from tests.fixtures.relays import Outbox, Watched, drain
from tests.integration.projector.conftest import OwnServers, migrate


def test_every_write_asks_for_a_journaled_majority(
    make_relay: Callable[..., Relay], outbox: Outbox, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()
    relay = make_relay(database, batch_size=1)
    outbox.user(1)
    outbox.item(1)
    outbox.user(1, 2, "Grace")
    outbox.item(1, 2)
    outbox.deleted("item", 1, 3)
    drain(relay)

    writes = commands.named("insert", "update", "delete")
    assert {command.get("insert") or command.get("update") for command in writes} == {
        "users_read",
        "items_read",
        "meta",
    }
    assert all(write["writeConcern"] == {"w": "majority", "j": True} for write in writes)


def test_every_read_asks_for_what_a_majority_holds(
    make_relay: Callable[..., Relay], outbox: Outbox, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()
    relay = make_relay(database)
    outbox.user(1)
    outbox.item(1)
    drain(relay)

    assert commands.named("find")
    # Linearizable is more: the mark is read from a primary that a majority confirmed.
    assert {read["readConcern"]["level"] for read in commands.named("find")} == {"majority", "linearizable"}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "failure",
    [
        {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
        {"errorCode": 189},
        {"errorCode": 50},
        {"closeConnection": True},
    ],
    ids=lambda failure: str(next(iter(failure.items()))),
)
def test_a_write_that_no_majority_confirmed_keeps_its_message(
    own_servers: OwnServers, failure: dict[str, object], version: int
) -> None:
    settings = own_servers.settings
    migrate(settings)
    with create_client(settings, "relay") as client, connect(settings, "test", autocommit=True) as connection:
        database = read_model_database(client, settings)
        outbox = Outbox(connection)
        relay = Relay(
            settings,
            lambda: open_relay_connection(settings, "relay", database),
            Delivery.of(settings, database),
            ClaimPosition(),
        )
        relay.run_once()
        outbox.user(1, version)
        own_servers.fail({"times": 1}, failCommands=["insert", "update"], appName="relay", **failure)

        with pytest.raises(PyMongoError) as caught:
            relay.run_once()
        assert len(outbox.ids()) == 1
        assert outbox.failures() == []
        assert connection.execute("SELECT attempts FROM outbox").fetchone() == (0,)
        assert isinstance(caught.value, BulkWriteError) == ("writeConcernError" in failure)

        counts = drain(relay)
        assert counts.settled == 1
        assert outbox.ids() == []
        assert database["users_read"].count_documents({"version": version}) == 1
        relay.close()


def test_a_settlement_that_postgresql_loses_in_a_crash_is_made_again(own_servers: OwnServers) -> None:
    """Its commit does not wait for the disk. What MongoDB has acknowledged stays, and is found stale."""
    settings = own_servers.settings
    migrate(settings)
    with create_client(settings, "relay") as client:
        database = read_model_database(client, settings)
        relay = Relay(
            settings,
            lambda: open_relay_connection(settings, "relay", database),
            Delivery.of(settings, database),
            # Every claim is a sweep: what comes back has an id that was passed.
            ClaimPosition(count().__next__),
        )
        relay.run_once()
        with connect(settings, "test", autocommit=True) as connection:
            message_id = Outbox(connection).user(1)
            # Who would write what is committed to the disk within moments is kept from it, so the loss is certain.
            [writer] = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
            ).fetchall()
            os.kill(writer[0], signal.SIGSTOP)
            assert relay.run_once().settled == 1
            assert Outbox(connection).ids() == []
            own_servers.postgres.kill()
            os.kill(writer[0], signal.SIGKILL)
        own_servers.postgres.restart()

        with connect(settings, "test", autocommit=True) as connection:
            assert Outbox(connection).ids() == [message_id]
            with pytest.raises(psycopg.OperationalError):
                relay.run_once()
            counts = drain(relay)
            assert (counts.applied, counts.stale, counts.settled) == (0, 1, 1)
            assert Outbox(connection).ids() == []
        assert database["users_read"].count_documents({"version": 1}) == 1
        relay.close()


def test_only_settling_goes_on_before_its_commit_is_on_the_disk(relay: Relay, postgres: psycopg.Connection) -> None:
    relay.run_once()
    assert relay._connection  # noqa: SLF001 - the session that settles
    assert relay._connection.execute("SHOW synchronous_commit").fetchone() == ("off",)  # noqa: SLF001 - the same
    assert postgres.execute("SHOW synchronous_commit").fetchone() == ("on",)
