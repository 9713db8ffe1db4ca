"""Invariant 11: clients read and write at full speed across several swaps, and notice nothing of them."""

from collections.abc import Callable

import psycopg
import pytest
from pymongo.database import Database

from projector import replay as replay_module
from projector.process import Projector
from projector.projections.registry import PROJECTIONS
from projector.verify import compare
from shared.mongo import Document
from tests.fixtures.busy_clients import PATIENT, BusyClients
from tests.fixtures.clients import ApiClient, item_body
from tests.fixtures.replays import MakeReplay, alive, shadows, states
from tests.fixtures.waiting import wait_until


def swap_them_all(make_replay: MakeReplay, clients: BusyClients) -> None:
    """Replay both read models twice while the clients work, and let them go on a moment after each swap."""
    for aggregate_type in ("user", "item") * 2:
        make_replay(aggregate_type).run()
        clients.go_on()


def test_clients_notice_nothing_of_several_swaps(
    running_projector: Projector,
    make_api: Callable[..., ApiClient],
    make_replay: MakeReplay,
    postgres: psycopg.Connection,
    read_models: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_module, "PAGE", 7)
    api = make_api(request_timeout_seconds=60, read_timeout_seconds=60, statement_timeout_seconds=60)
    ada = api.new_user()["id"]
    bob = api.new_user("Bob", "bob@example.org")["id"]
    api.new_item(ada)
    clients = BusyClients(api)
    with clients.at_work(ada, bob):
        swap_them_all(make_replay, clients)
    wait_until(lambda: postgres.execute("SELECT count(*) FROM outbox").fetchone() == (0,), "everything is settled", 60)

    assert states(postgres) == [("user", "done"), ("item", "done")] * 2
    assert postgres.execute("SELECT count(*) FROM outbox_failures").fetchone() == (0,)
    assert shadows(read_models) == []
    found = {item["_id"]: item["version"] for item in alive(read_models)}
    assert clients.versions.items() <= found.items()
    assert not clients.deleted & found.keys()
    for projection in PROJECTIONS.values():
        live = read_models[projection.read_model.name]
        assert list(compare(postgres, live, projection, deep=True)) == []
    assert api.post("/items", json=item_body(ada), headers=PATIENT).status_code == 201
