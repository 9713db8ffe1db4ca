"""A new field in a projection reaches every document by replay, with projectors of both versions side by side."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from pymongo.database import Database
from pymongo.errors import WriteError

from projector.relay import Relay
from projector.replays import ReplayError
from projector.settings import ProjectorSettings
from projector.shapes import ShapeTooOldError
from shared.mongo import Document, ensure_read_models
from shared.read_models import ITEMS_READ, shapes_of
from tests.fixtures.busy_clients import BusyClients
from tests.fixtures.clients import ApiClient
from tests.fixtures.databases import ROOT
from tests.fixtures.newer_version import FIELD, MODULE, NEWER
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.replays import MakeReplay, alive, shadows, states
from tests.fixtures.runbook import procedure, run_procedure
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import Commands, ProjectorProcess, Rows, environment_of, run_cli

TOO_OLD = "items_read is made in shape 2 by a newer version, this one makes shape 1"
TOO_NEW = "items_read was taken back to shape 1 by an older version, this one makes shape 2"

StartProjector = Callable[..., ProjectorProcess]


def with_field(read_models: Database[Document]) -> list[bool]:
    """Return of each item whether its document has the new field."""
    return [FIELD in item for item in alive(read_models)]


def settled_by(postgres: psycopg.Connection, projector: ProjectorProcess) -> int:
    """Return how many messages a projector has settled."""
    settled = "SELECT coalesce(sum(settled), 0) FROM projectors WHERE name LIKE '%%:' || %s || ' lane %%'"
    (count,) = postgres.execute(settled, (str(projector.process.pid),)).fetchone() or (0,)
    return int(count)


def is_waiting(projector: ProjectorProcess, reason: str) -> bool:
    """Return whether it is not ready for this reason, by /ready and in its log."""
    answer = projector.get("/ready")
    said = [event["reason"] for event in projector.events("relay.waiting")]
    return (
        answer.status_code == 503
        and all(reason in lane["reason"] for lane in answer.json()["lanes"])
        and bool([each for each in said if reason in each])
    )


@pytest.mark.slow
def test_a_new_field_reaches_every_document_while_old_and_new_projectors_run_side_by_side(
    settings: ProjectorSettings,
    make_api: Callable[..., ApiClient],
    start_projector: StartProjector,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    api = make_api(request_timeout_seconds=60, read_timeout_seconds=60, statement_timeout_seconds=60)
    old = start_projector()
    ada, bob = api.new_user()["id"], api.new_user("Bob", "bob@example.org")["id"]
    untouched = api.new_item(ada)["id"]
    clients = BusyClients(api)
    with clients.at_work(ada, bob):
        clients.go_on()
        new = start_projector(module=MODULE)
        new.wait_ready()
        wait_until(lambda: len(set(with_field(read_models))) > 1, "documents of both shapes are there", 60)
        # What the other version has written takes the new name of its owner as well.
        clients.go_on()
        assert old.get("/ready").status_code == 200

        newer = {"projector ": f"python -m {MODULE} "}
        done = run_procedure(procedure("A document's shape changed"), environment_of(settings), replaced=newer)

        assert done.returncode == 0, done.stdout + done.stderr
        assert "No drift" in done.stdout

        wait_until(lambda: is_waiting(old, TOO_OLD), "the old projector waits, and says why", 60)
        before = settled_by(postgres, old), settled_by(postgres, new)
        clients.go_on()
    wait_until(lambda: postgres.execute("SELECT count(*) FROM outbox").fetchone() == (0,), "everything is settled", 60)

    assert settled_by(postgres, old) == before[0]
    assert settled_by(postgres, new) > before[1]
    assert postgres.execute("SELECT count(*) FROM outbox_failures").fetchone() == (0,)
    found = {item["_id"]: item["version"] for item in alive(read_models)}
    assert {untouched: 1, **clients.versions}.items() <= found.items()
    assert not clients.deleted & found.keys()
    assert set(with_field(read_models)) == {True}
    assert run_cli(settings, "verify", "--deep", module=MODULE).returncode == 0
    # Not even by a projector that did not know when to stop.
    assert shapes_of(read_models["items_read"].options()["validator"]) == {NEWER.shape}
    with pytest.raises(WriteError, match="failed validation"):
        read_models["items_read"].update_one({"_id": untouched}, {"$unset": {FIELD: True}})


def test_a_deploy_that_is_undone_takes_documents_back_and_can_be_done_again(
    settings: ProjectorSettings,
    start_projector: StartProjector,
    rows: Rows,
    outbox: Outbox,
    read_models: Database[Document],
) -> None:
    first = rows.item(rows.user())
    new = start_projector(module=MODULE)
    assert run_cli(settings, "replay", module=MODULE).returncode == 0
    assert with_field(read_models) == [True]
    old = start_projector()
    old.wait_started()
    wait_until(lambda: is_waiting(old, TOO_OLD), "the old one waits", 60)
    refused = run_cli(settings, "replay", "items")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert TOO_OLD in refused.stderr
    assert "`projector replay items --take-back`" in refused.stderr

    back = run_procedure(procedure("A document's shape changed", 1), environment_of(settings))

    assert back.returncode == 0, back.stdout + back.stderr
    # Nobody has stopped the newer one: it waits by itself.
    wait_until(lambda: is_waiting(new, TOO_NEW), "the new one waits", 60)
    outbox.item(first, 2, name="a name")
    wait_until(lambda: outbox.ids() == [], "the old one relays", 60)
    assert (with_field(read_models), read_models["items_read"].find_one({})["name"]) == ([False], "a name")  # type: ignore[index] - it is there

    again = run_cli(settings, "replay", "items", module=MODULE)

    assert again.returncode == 0, again.stderr
    assert set(with_field(read_models)) == {True}
    wait_until(
        lambda: is_waiting(old, TOO_OLD) and new.get("/ready").status_code == 200, "they change places again", 60
    )


@contextmanager
def newer_replay(settings: ProjectorSettings, postgres: psycopg.Connection) -> Iterator[None]:
    """Let a replay of the newer version be at work, which will take minutes."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "replay", "items", "--rate", "1"],
        cwd=ROOT, env=environment_of(settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        copied = "SELECT copied > 0 FROM replays WHERE ended_at IS NULL"
        wait_until(lambda: postgres.execute(copied).fetchone() == (True,), "it copies", 60)
        yield
    finally:
        process.kill()
        process.wait()


def test_the_old_version_relays_again_when_the_replay_is_cancelled(
    settings: ProjectorSettings,
    relay: Relay,
    rows: Rows,
    outbox: Outbox,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    owner_id = rows.user()
    items = [rows.item(owner_id) for _ in range(200)]
    relay.run_once()
    with newer_replay(settings, postgres):
        outbox.item(items[0])
        for _ in range(2):  # connected before, and anew
            with pytest.raises(ShapeTooOldError, match=TOO_OLD):
                relay.run_once()
        assert run_cli(settings, "replay", "--cancel").returncode == 0

    assert drain(relay).settled == 1
    assert (states(postgres), shadows(read_models)) == ([("item", "cancelled")], [])
    assert with_field(read_models) == [False]


def test_a_replay_of_the_old_version_does_not_go_live_once_the_new_one_writes_too(
    settings: ProjectorSettings,
    start_projector: StartProjector,
    make_replay: MakeReplay,
    rows: Rows,
    commands: Commands,
    outbox: Outbox,
    read_models: Database[Document],
) -> None:
    first = rows.item(rows.user())
    replay = make_replay("item")
    at_work = replay.begin()
    while at_work.state == "copying":
        at_work = replay.copy(at_work)
    start_projector(module=MODULE).wait_ready()
    commands.rename("item", first, "another name")
    wait_until(lambda: outbox.ids() == [], "the newer one has written live collection and shadow", 60)
    assert outbox.failures() == []

    with pytest.raises(ReplayError, match="a version that makes shape 2 wrote, too: replay with that"):
        replay.run()

    assert with_field(read_models) == [True]
    # From here on a replay of the old version has to be meant.
    with pytest.raises(ShapeTooOldError, match=TOO_OLD):
        make_replay("item").begin()


def test_documents_of_another_shape_go_on_being_taken(read_models: Database[Document]) -> None:
    ensure_read_models(read_models)
    for read_model in (NEWER, ITEMS_READ, NEWER):
        ensure_read_models(read_models, (read_model,))
    assert shapes_of(read_models["items_read"].options()["validator"]) == {ITEMS_READ.shape, NEWER.shape}
