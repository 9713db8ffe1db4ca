"""Whose read models are these? On any doubt the relay stops, names the remedy, and goes on after it was applied."""

from collections.abc import Callable
from uuid import uuid4

import psycopg
import pytest
from pymongo.database import Database

from api.scripts.clean_mongo import clean
from projector.handshake import shake_hands
from projector.process import Projector
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.installation import ForeignReadModelsError, InstallationChangedError, NotMigratedError, check_read_models
from shared.mongo import Document
from tests.fixtures.databases import alembic
from tests.fixtures.relays import Outbox, Watched, drain
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ProjectorProcess, Rows, run_cli

REMEDY = "run `python api/scripts/clean_mongo.py`, then `projector replay`"


def of_another_installation(postgres: psycopg.Connection, read_models: Database[Document]) -> str:
    postgres.execute("UPDATE installation SET id = gen_random_uuid()")
    return "the read models belong to another installation (installation: MongoDB has "


def of_another_server(postgres: psycopg.Connection, read_models: Database[Document]) -> str:
    read_models["meta"].update_one({"_id": "installation"}, {"$set": {"system_identifier": "1"}})
    return "the read models belong to another installation (system_identifier: MongoDB has 1, PostgreSQL has "


def of_another_timeline(postgres: psycopg.Connection, read_models: Database[Document]) -> str:
    read_models["meta"].update_one({"_id": "installation"}, {"$set": {"timeline": 7}})
    return "the read models belong to another installation (timeline: MongoDB has 7, PostgreSQL has "


def of_tables_made_anew(postgres: psycopg.Connection, read_models: Database[Document]) -> str:
    with postgres.transaction():
        postgres.execute("CREATE TABLE restored (LIKE installation INCLUDING ALL)")
        postgres.execute("INSERT INTO restored SELECT * FROM installation")
        postgres.execute("DROP TABLE installation")
        postgres.execute("ALTER TABLE restored RENAME TO installation")
    return "the read models belong to another installation (table: MongoDB has "


def of_unknown_origin(postgres: psycopg.Connection, read_models: Database[Document]) -> str:
    postgres.execute("UPDATE installation SET has_read_models = false")
    read_models["meta"].drop()
    return "users_read holds documents of unknown origin"


def lost(postgres: psycopg.Connection, read_models: Database[Document]) -> str:
    read_models.client.drop_database(read_models.name)
    return "the read models of this installation are gone"


DOUBTS = [of_another_installation, of_another_server, of_another_timeline, of_tables_made_anew, of_unknown_origin, lost]


@pytest.mark.parametrize("doubt", DOUBTS, ids=lambda doubt: doubt.__name__)
def test_a_relay_refuses_read_models_in_doubt_and_goes_on_after_clean(
    make_relay: Callable[..., Relay],
    rows: Rows,
    outbox: Outbox,
    postgres: psycopg.Connection,
    read_models: Database[Document],
    doubt: Callable[..., str],
) -> None:
    outbox.user(rows.user())
    drain(make_relay())
    reason = doubt(postgres, read_models)
    user_id = rows.user()
    outbox.user(user_id)
    relay = make_relay()

    for _ in range(2):
        with pytest.raises(ForeignReadModelsError) as refused:
            relay.run_once()
    assert reason in str(refused.value)
    assert REMEDY in str(refused.value)
    assert len(outbox.ids()) == 1
    assert read_models["users_read"].count_documents({"_id": user_id}) == 0

    clean(postgres, read_models)
    assert drain(relay).settled == 1
    assert [d["_id"] for d in read_models["users_read"].find({"deleted_at": None})] == [user_id]


def test_a_new_installation_adopts_empty_read_models(
    relay: Relay, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    relay.run_once()

    installation = postgres.execute("SELECT id::text FROM installation WHERE has_read_models").fetchone()
    mark = read_models["meta"].find_one({"_id": "installation"})
    assert installation
    assert mark
    assert mark["installation"] == installation[0]


def test_a_reset_of_the_tables_under_a_connected_relay_is_noticed_in_its_next_batch(
    make_relay: Callable[..., Relay],
    settings: ProjectorSettings,
    rows: Rows,
    outbox: Outbox,
    read_models: Database[Document],
) -> None:
    relay = make_relay()
    outbox.user(1)
    drain(relay)
    for _ in range(6):  # often enough for psycopg to prepare the statements on the server
        relay.run_once()
    url = settings.database_url.get_secret_value()
    alembic(url, "downgrade", "base")
    alembic(url, "upgrade", "head")
    assert rows.user("Somebody else") == 1  # identity values are issued again
    outbox.user(1, 1, "Somebody else")

    with pytest.raises(InstallationChangedError):
        relay.run_once()
    with pytest.raises(ForeignReadModelsError):
        relay.run_once()
    assert [d["name"] for d in read_models["users_read"].find()] == ["Ada"]
    assert len(outbox.ids()) == 1

    clean(outbox.connection, read_models)
    drain(relay)
    assert [d["name"] for d in read_models["users_read"].find()] == ["Somebody else"]


def test_rows_that_are_put_back_under_a_connected_relay_are_noticed_in_its_next_batch(
    relay: Relay, outbox: Outbox, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    outbox.user(1)
    drain(relay)
    before = postgres.execute("SELECT number FROM handshake").fetchone()
    shake_hands(postgres, read_models)
    with postgres.transaction():
        installation = postgres.execute("SELECT id FROM installation").fetchone()
        postgres.execute("TRUNCATE installation, handshake")
        postgres.execute("INSERT INTO installation (id, has_read_models) VALUES (%s, true)", installation)
        postgres.execute("INSERT INTO handshake (number) VALUES (%s)", before)
    message = outbox.user(2)

    with pytest.raises(InstallationChangedError):
        relay.run_once()
    with pytest.raises(ForeignReadModelsError, match="PostgreSQL was restored"):
        relay.run_once()
    assert outbox.ids() == [message]
    assert read_models["users_read"].count_documents({"_id": 2}) == 0


def test_tables_that_are_gone_are_waited_for(
    make_relay: Callable[..., Relay], settings: ProjectorSettings, read_models: Database[Document]
) -> None:
    relay = make_relay()
    relay.run_once()
    alembic(settings.database_url.get_secret_value(), "downgrade", "base")

    for _ in range(2):
        with pytest.raises(NotMigratedError, match="run `alembic upgrade head`"):
            relay.run_once()


def test_a_projector_says_in_ready_why_it_stopped_and_goes_on_by_itself_after_clean_and_replay(
    start_projector: Callable[..., ProjectorProcess],
    settings: ProjectorSettings,
    rows: Rows,
    outbox: Outbox,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    read_models["users_read"].insert_one({"_id": 77, "name": "not ours"})
    user_id = rows.user("Ada")
    projector = start_projector()
    projector.wait_started()
    wait_until(lambda: "unknown origin" in projector.reasons(), "it says why")
    assert REMEDY in projector.reasons()
    assert projector.ready().status_code == 503

    clean(postgres, read_models)
    projector.wait_ready()
    assert run_cli(settings, "replay").returncode == 0
    assert [d["_id"] for d in read_models["users_read"].find()] == [user_id]
    outbox.user(5)
    wait_until(lambda: outbox.ids() == [], "it relays")


def test_clean_works_beside_a_busy_projector(
    running_projector: Projector,
    rows: Rows,
    outbox: Outbox,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    outbox.bulk(3000, first=1000)
    for _ in range(3):
        with psycopg.connect(postgres.info.dsn, password=postgres.info.password, autocommit=True) as connection:
            clean(connection, read_models)
    user_id = rows.user()
    outbox.user(user_id)
    wait_until(lambda: outbox.ids() == [], "everything is settled")
    assert read_models["users_read"].count_documents({"_id": user_id, "version": 1}) == 1


def test_the_mark_of_a_clean_that_broke_off_may_come_in_the_middle_of_the_next(
    rows: Rows,
    relay: Relay,
    postgres: psycopg.Connection,
    read_models: Database[Document],
    watch: Callable[[], Watched],
) -> None:
    relay.run_once()
    late = {**(read_models["meta"].find_one() or {}), "installation": str(uuid4())}
    database, commands = watch()
    commands.before_next("update", "meta", lambda: read_models["meta"].insert_one(late))

    clean(postgres, database)

    assert len(commands.named("delete")) == 3
    check_read_models(postgres, read_models)


def test_clean_leaves_tombstones_for_what_has_messages_but_no_row(
    relay: Relay, rows: Rows, outbox: Outbox, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    alive = rows.user()
    outbox.user(alive, 1)
    outbox.user(100, 1)  # deleted since: its row is gone, its messages are on their way
    outbox.user(100, 2)
    outbox.deleted("user", 100, 3)
    outbox.append("item", 100, 4, "exploded", {})
    drain(relay)  # settles the users; the item is tried again and becomes a dead letter
    outbox.user(101, 2)
    outbox.user(102, 5)

    clean(postgres, read_models)

    assert {d["_id"]: d["version"] for d in read_models["users_read"].find()} == {101: 2, 102: 5}
    assert {d["_id"]: d["version"] for d in read_models["items_read"].find()} == {100: 4}
    assert all(d.keys() == {"_id", "version", "deleted_at"} for d in read_models["users_read"].find())
    # They prevent a resurrection by what is still on its way, once the lane has looked at the new read models.
    with pytest.raises(InstallationChangedError):
        relay.run_once()
    counts = drain(relay)
    assert (counts.stale, counts.settled) == (2, 2)
    assert read_models["users_read"].count_documents({"deleted_at": None}) == 0
