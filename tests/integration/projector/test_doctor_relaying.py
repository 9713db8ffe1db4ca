"""`projector doctor` on the relay and the read models: who relays, how it goes, whose they are, do they agree."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace

import psycopg
import pytest
from pydantic import SecretStr
from pymongo.database import Database

from projector import replays
from projector.doctor import migrations, read_models, relaying
from projector.doctor.finding import Finding, Severity
from projector.relay import Relay
from projector.replays import ReplayError
from projector.settings import ProjectorSettings
from shared.mongo import Document
from shared.read_models import ITEMS_READ
from tests.fixtures.databases import ROOT, alembic
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.replays import MakeReplay, shadows
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, ProjectorProcess, Rows, environment_of, migrate, run_cli

StartProjector = Callable[..., ProjectorProcess]


@pytest.fixture
def stored(request: pytest.FixtureRequest) -> Database[Document]:
    """The MongoDB database of this test, by a name that a module does not have."""
    database: Database[Document] = request.getfixturevalue("read_models")
    return database


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    assert json.dumps(dict(found[0].details))
    return found[0]


def test_no_projector_is_running(settings: ProjectorSettings, outbox: Outbox) -> None:
    assert only(list(relaying.be_at_work(settings))).cause == (
        "no projector is running: no message waits now, and no write becomes visible"
    )
    outbox.bulk(3)
    found = only(list(relaying.be_at_work(settings)))
    assert found.cause == "no projector is running: 3 messages wait, and no write becomes visible"
    assert "`projector run`" in found.remedy
    assert found.severity is Severity.ERROR


def test_a_projector_that_is_killed_is_no_longer_running(
    start_projector: StartProjector, settings: ProjectorSettings
) -> None:
    projector = start_projector()
    projector.wait_ready()
    assert list(relaying.be_at_work(settings)) == []
    projector.end(9)
    wait_until(lambda: list(relaying.be_at_work(settings)), "PostgreSQL has noticed")
    assert only(list(relaying.be_at_work(settings))).cause.startswith("no projector is running: ")


def test_a_projector_that_is_running_and_relays_nothing(
    start_projector: StartProjector, settings: ProjectorSettings
) -> None:
    away = SecretStr("mongodb://127.0.0.1:1/?replicaSet=rs0")
    projector = start_projector(settings.model_copy(update={"mongo_url": away, "connect_timeout_seconds": 1}))
    projector.wait_started()
    wait_until(lambda: "has relayed nothing" in _causes(relaying.be_at_work(settings)), "it is connected")
    found = only(list(relaying.be_at_work(settings)))
    assert found.cause.startswith("kata-projector ")
    assert found.cause.endswith(" is running and has relayed nothing ever: no message waits now")
    assert "/ready" in found.remedy


def test_messages_that_wait_too_long(settings: ProjectorSettings, outbox: Outbox) -> None:
    outbox.bulk(2)
    assert list(relaying.keep_up(settings)) == []
    found = only(list(relaying.keep_up(settings.model_copy(update={"lag_degraded_seconds": 0}))))
    assert found.cause.startswith("the oldest message that is not settled is ")
    assert found.cause.endswith(" s old; 2 wait, 0 of them for another attempt")
    assert "`projector status --watch`" in found.remedy


def test_a_batch_in_hand_that_takes_far_longer_than_usual(
    own_servers: OwnServers, start_projector: StartProjector
) -> None:
    settings = own_servers.settings
    migrate(settings)
    projector = start_projector(settings)
    projector.wait_ready()
    own_servers.fail("alwaysOn", failCommands=["insert", "update"], blockConnection=True, blockTimeMS=1_500)
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        Outbox(connection).user(1)
    wait_until(lambda: "MongoDB" in _causes(relaying.take_no_longer_than_usual(settings)), "a batch is slow", 60)


@pytest.mark.parametrize(
    ("seconds", "usual", "is_slow"),
    [(6.0, 0.5, True), (6.0, 2.0, False), (1.0, 0.001, False)],
    ids=["slow", "usually slow", "quick enough"],
)
def test_a_last_batch_is_slow_beside_the_usual_ones_and_the_deadline(
    settings: ProjectorSettings, postgres: psycopg.Connection, seconds: float, usual: float, *, is_slow: bool
) -> None:
    postgres.execute(
        "INSERT INTO projectors (name, batch_seconds, usual_batch_seconds)"
        " VALUES ('kata-projector a:1 lane 0', %s, %s)",
        (seconds, usual),
    )
    causes = [found.cause for found in relaying.take_no_longer_than_usual(settings)]
    expected = "the last batch took 6.0 s, usual are 0.500 s (kata-projector a:1)"
    assert causes == ([expected] if is_slow else [])


def test_dead_letters_are_counted_by_their_error(settings: ProjectorSettings, relay: Relay, outbox: Outbox) -> None:
    assert list(relaying.have_no_dead_letters(settings)) == []
    first = outbox.append("item", 1, 1, "exploded", {})
    outbox.append("item", 2, 1, "exploded", {})
    outbox.append("user", 1, 1, "created", {"schema_version": 1})
    drain(relay)
    found = only(list(relaying.have_no_dead_letters(settings)))
    assert found.cause.startswith("3 dead letters: 2 times ")
    assert f"`projector dead-letters show {first}`" in found.remedy
    assert found.details["dead_letters"] == 3


def test_documents_that_mongodbs_validator_rejects(
    settings: ProjectorSettings, make_relay: Callable[..., Relay], outbox: Outbox, stored: Database[Document]
) -> None:
    relay = make_relay()
    outbox.user(1)
    drain(relay)
    assert list(read_models.take_what_we_write(settings)) == []
    stored.command("collMod", ITEMS_READ.name, validator={"$jsonSchema": {"required": ["price"]}})
    message = outbox.item(1)
    drain(relay)

    refused, changed = read_models.take_what_we_write(settings)

    assert refused.cause.startswith(
        f"MongoDB's validator rejects documents (1 failed, the first of message {message}): MongoDB refused the"
    )
    assert changed.cause.startswith("the validator of items_read is not that of this version")
    assert "`projector run` sets" in changed.remedy
    drain(make_relay())  # it sets the validators
    assert len(list(read_models.take_what_we_write(settings))) == 1


def test_a_read_model_of_a_newer_shape(settings: ProjectorSettings, relay: Relay, stored: Database[Document]) -> None:
    relay.run_once()
    stored.command("collMod", ITEMS_READ.name, validator=replace(ITEMS_READ, shape=ITEMS_READ.shape + 1).validator)
    found = only(list(read_models.take_what_we_write(settings)))
    assert found.cause.startswith("items_read takes documents of shape 2, which a newer version makes")
    assert "`projector replay items --take-back`" in found.remedy


def test_indexes_that_are_missing(settings: ProjectorSettings, relay: Relay, stored: Database[Document]) -> None:
    relay.run_once()
    stored["users_read"].drop_index("email")
    assert only(list(read_models.take_what_we_write(settings))).cause == "indexes are missing: users_read.email"


def test_read_models_of_another_installation_or_of_unknown_origin(
    settings: ProjectorSettings,
    relay: Relay,
    outbox: Outbox,
    postgres: psycopg.Connection,
    stored: Database[Document],
) -> None:
    assert list(read_models.be_ours(settings)) == []
    outbox.user(1)
    drain(relay)
    assert list(read_models.be_ours(settings)) == []
    postgres.execute("UPDATE installation SET id = gen_random_uuid()")
    found = only(list(read_models.be_ours(settings)))
    assert found.cause.startswith("the read models belong to another installation (installation: MongoDB has ")
    assert found.remedy == "run `python api/scripts/clean_mongo.py`, then `projector replay`"

    postgres.execute("UPDATE installation SET has_read_models = false")
    stored["meta"].drop()
    found = only(list(read_models.be_ours(settings)))
    assert found.cause == "users_read holds documents of unknown origin"
    assert found.remedy == "run `python api/scripts/clean_mongo.py`, then `projector replay`"


def test_a_replay_that_was_interrupted_until_it_is_done(
    settings: ProjectorSettings, relay: Relay, rows: Rows, postgres: psycopg.Connection
) -> None:
    relay.run_once()
    for _ in range(3):
        rows.user()
    command = [sys.executable, "-m", "projector.cli", "replay", "users", "--rate", "0.1"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment_of(settings), stderr=subprocess.DEVNULL)
    try:
        at_work = "SELECT FROM replays WHERE ended_at IS NULL"
        wait_until(lambda: postgres.execute(at_work).rowcount, "the replay is at work", 60)
        assert list(read_models.finish_replays(settings)) == []
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: list(read_models.finish_replays(settings)), "PostgreSQL has noticed")
    found = only(list(read_models.finish_replays(settings)))
    assert found.cause.startswith("the replay of users was interrupted at ")
    assert "of 3 rows; until it ends, every write is written twice" in found.cause

    done = run_cli(settings, *found.remedy.split("`")[1].split()[1:])
    assert done.returncode == 0, done.stderr
    assert list(read_models.finish_replays(settings)) == []


def test_collections_that_replays_have_left(
    settings: ProjectorSettings, rows: Rows, make_replay: MakeReplay, postgres: psycopg.Connection,
    stored: Database[Document],
) -> None:  # fmt: skip
    rows.user()
    make_replay("user").begin()
    assert list(read_models.leave_no_shadows(settings)) == []
    # What a projector had sent for a shadow that is no more arrives late.
    stored["items_read_shadow_00"].insert_one({"_id": 1, "version": 1})
    with replays.taking_turn(postgres):
        assert list(read_models.leave_no_shadows(settings)) == []

    found = only(list(read_models.leave_no_shadows(settings)))

    assert found.cause == "nobody reads or writes what replays have left: items_read_shadow_00"
    assert found.remedy == "`projector replay --cancel` drops it, and gives up the one that was interrupted"
    assert run_cli(settings, "replay", "--cancel").returncode == 0
    assert list(read_models.leave_no_shadows(settings)) == []
    assert shadows(stored) == []


def test_a_replay_that_failed(
    settings: ProjectorSettings, make_replay: MakeReplay, rows: Rows, stored: Database[Document]
) -> None:
    rows.user("Refused")
    replay = make_replay("user")
    stored.command("collMod", replay.begin().shadow, validator={"name": {"$ne": "Refused"}})
    with pytest.raises(ReplayError):
        replay.run()
    found = only(list(read_models.finish_replays(settings)))
    assert found.cause.startswith("the last replay of users failed: ")
    assert "MongoDB refused the document" in found.cause
    assert "`projector replay users`" in found.remedy


def test_drift_that_a_verification_found_until_its_repair_is_verified(
    settings: ProjectorSettings, relay: Relay, rows: Rows
) -> None:
    relay.run_once()
    assert list(read_models.agree_with_the_rows(settings)) == []
    rows.user()
    assert run_cli(settings, "verify").returncode == 1
    found = only(list(read_models.agree_with_the_rows(settings)))
    assert found.cause == "drift: of the users 1 missing"

    repair, again = found.remedy.split("`")[1::2]
    run_cli(settings, *repair.split()[1:])
    drain(relay)
    assert run_cli(settings, *again.split()[1:]).returncode == 0
    assert list(read_models.agree_with_the_rows(settings)) == []


def test_migrations_that_are_behind_missing_or_ahead(settings: ProjectorSettings, postgres: psycopg.Connection) -> None:
    url = settings.database_url.get_secret_value()
    assert list(migrations.be_at_head(settings)) == []
    alembic(url, "downgrade", "-1")
    found = only(list(migrations.be_at_head(settings)))
    assert found.cause.startswith("migrations are behind: the database is at ")
    assert found.remedy == "run `alembic upgrade head`"

    postgres.execute("UPDATE alembic_version SET version_num = '9999'")
    found = only(list(migrations.be_at_head(settings)))
    assert (found.severity, "which this code does not know" in found.cause) == (Severity.WARNING, True)

    postgres.execute("DROP TABLE alembic_version")
    assert only(list(migrations.be_at_head(settings))).cause == "the write model has no tables"


def _causes(findings: Iterable[Finding]) -> str:
    return "; ".join(found.cause for found in findings)
