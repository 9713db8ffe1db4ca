"""Invariant 11: clients read and write at full speed across several swaps, and notice nothing of them."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import psycopg
import pytest
from pymongo.database import Database

from projector import replay as replay_module
from projector.process import Projector
from projector.projections.registry import PROJECTIONS
from projector.verify import compare
from shared.mongo import Document
from tests.fixtures.clients import ApiClient, item_body
from tests.fixtures.replays import MakeReplay, alive, shadows, states
from tests.fixtures.waiting import wait_until

PATIENT = {"Prefer": "wait=30"}
ITEMS_PER_WRITER = 10


@dataclass
class Clients:
    """Writers and readers on threads, and what they know must be so."""

    api: ApiClient
    stop: threading.Event = field(default_factory=threading.Event)
    versions: dict[int, int] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    reads: int = 0

    def send(self, method: str, path: str, headers: dict[str, str] | None = None, **arguments: Any) -> httpx.Response:
        return self.api.request(method, path, headers=PATIENT | (headers or {}), timeout=90, **arguments)

    def sent(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        answer = self.send(method, path, **arguments)
        assert answer.is_success, answer.text
        return answer

    def shown(self, item_id: int, token: str) -> httpx.Response:
        return self.send("GET", f"/items/{item_id}", headers={"Consistency-Token": token})

    def write(self, owner: int) -> None:
        """Change items, each of which belongs to this thread alone, and read every write with its token."""
        items = [self.api.new_item(owner)["id"] for _ in range(ITEMS_PER_WRITER)]
        self.versions |= dict.fromkeys(items, 1)
        for n in count():
            if self.stop.is_set():
                return
            item_id = items[n % len(items)]
            token = self.sent("PUT", f"/items/{item_id}", json={"quality": n}).headers["consistency-token"]
            self.versions[item_id] += 1
            seen = self.shown(item_id, token).json()
            assert (seen["quality"], seen["version"]) == (n, self.versions[item_id])
            if n % 5 == 4:
                gone, items[n % len(items)] = item_id, self.api.new_item(owner)["id"]
                self.versions[items[n % len(items)]] = 1
                token = self.sent("DELETE", f"/items/{gone}").headers["consistency-token"]
                self.deleted.add(gone)
                del self.versions[gone]
                assert self.shown(gone, token).status_code == 404

    def rename(self, user_id: int) -> None:
        """Rename a user who owns items, and read the items with the rename's token."""
        for n in count():
            if self.stop.is_set():
                return
            token = self.sent("PUT", f"/users/{user_id}", json={"name": f"Ada {n}"}).headers["consistency-token"]
            seen = self.sent("GET", f"/users/{user_id}", headers={"Consistency-Token": token}).json()
            assert seen["name"] == f"Ada {n}"

    def read(self) -> None:
        """Read what there is, by every way; what was deleted before a read began is never in it."""
        while not self.stop.is_set():
            for path in ("/items?sort=name", "/items?tag=cheese", "/items?q=brie", "/items", "/users", "/tags"):
                gone = set(self.deleted)
                answer = self.sent("GET", path, params={"limit": 1000})
                assert answer.json() != []
                if path.startswith("/items"):
                    assert not gone & {item["id"] for item in answer.json()}
                self.reads += 1


def swap_them_all(make_replay: MakeReplay, clients: Clients, working: list[Future[None]]) -> None:
    """Replay both read models twice while the clients work, and let them go on a moment after each swap."""
    for aggregate_type in ("user", "item") * 2:
        make_replay(aggregate_type).run()
        reads = clients.reads
        wait_until(lambda: clients.reads > reads + 6 or any(f.done() for f in working), "clients go on", 90)  # noqa: B023 - called at once
        assert not any(client.done() for client in working)


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
    clients = Clients(api)
    with ThreadPoolExecutor(5) as pool:
        working = [pool.submit(clients.write, owner) for owner in (ada, ada, bob)]
        working += [pool.submit(clients.rename, ada), pool.submit(clients.read)]
        try:
            swap_them_all(make_replay, clients, working)
        finally:
            clients.stop.set()
    for client in working:
        client.result()
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
