"""The main job on real input: 300 lines of a real catalogue, two projectors, waiting clients, rename, clean, replay."""

import hashlib
import json
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from devstack.instance import Instance
from tests.fixtures.waiting import wait_until

CATALOGUE = Path(__file__).parents[1] / "data" / "catalogue-300.jsonl"
SEED = (sys.executable, "api/scripts/seed.py", "--from", "-", "--json")


def digest(kata: Instance) -> dict[str, str]:
    """Return a hash of every document's bytes, for each read model."""
    with MongoClient[RawBSONDocument](kata.mongo, document_class=RawBSONDocument) as client:
        return {
            name: hashlib.sha256(b"".join(d.raw for d in client["kata"][name].find().sort("_id", 1))).hexdigest()
            for name in ("users_read", "items_read")
        }


def drained(kata: Instance) -> bool:
    done = kata.run(("projector", "status", "--json"))
    return json.loads(done.stdout.splitlines()[-1])["backlog"] == 0


@pytest.fixture(scope="module")
def lines() -> list[dict[str, object]]:
    return [json.loads(line) for line in CATALOGUE.read_text(encoding="utf-8").splitlines()]


def test_a_real_catalogue_is_imported_while_clients_wait_and_read_their_writes(
    kata: Instance, lines: list[dict[str, object]]
) -> None:
    stop = threading.Event()
    seen: list[tuple[int, bool]] = []

    def write_and_read() -> None:
        with httpx.Client(base_url=kata.api, timeout=30) as client:
            number = 0
            while not stop.is_set():
                number += 1
                written = client.post("/users", json={"name": "waits", "email": f"waits{number}@example.org"})
                read = client.get(written.headers["Location"])
                seen.append((written.status_code, read.status_code == 200 and read.json() == written.json()))

    client = threading.Thread(target=write_and_read)
    client.start()
    done = kata.run(SEED, text=CATALOGUE.read_text(encoding="utf-8"))
    wait_until(lambda: drained(kata), "the backlog is gone")
    stop.set()
    client.join(30)

    kinds = Counter(line["kind"] for line in lines)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["users"], summary["items"]) == (kinds["user"], kinds["item"])
    assert len(seen) > 0
    assert set(seen) == {(201, True)}
    verified = kata.run(("projector", "verify", "--json"))
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["drift"] == 0


def test_the_same_file_adds_nothing_the_second_time(kata: Instance, lines: list[dict[str, object]]) -> None:
    done = kata.run(SEED, text=CATALOGUE.read_text(encoding="utf-8"))

    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["users"], summary["items"], summary["already_there"]) == (0, 0, len(lines))


def test_a_rename_reaches_every_item_before_it_is_answered(kata: Instance, lines: list[dict[str, object]]) -> None:
    busiest, count = Counter(line["owner_email"] for line in lines if line["kind"] == "item").most_common(1)[0]
    with httpx.Client(base_url=kata.api, timeout=30) as client:
        owner = client.get("/users", params={"email": str(busiest)}).json()[0]
        renamed = client.put(f"/users/{owner['id']}", json={"name": "Renamed"})
        items = client.get("/items", params={"owner_id": owner["id"], "limit": 1000}).json()

    assert renamed.status_code == 200
    assert len(items) == count
    assert {item["owner"]["name"] for item in items} == {"Renamed"}


def test_clean_and_replay_bring_the_same_documents_back_byte_for_byte(kata: Instance) -> None:
    before = digest(kata)

    cleaned = kata.run((sys.executable, "api/scripts/clean_mongo.py"))
    assert cleaned.returncode == 0, cleaned.stderr
    assert httpx.get(f"{kata.api}/items", timeout=10).json() == []
    replayed = kata.run(("projector", "replay", "--json"))

    assert replayed.returncode == 0, replayed.stderr
    assert digest(kata) == before
