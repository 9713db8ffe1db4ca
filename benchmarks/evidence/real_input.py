"""The main job on the whole catalogue: import, waiting clients, rename, verify, clean, replay."""

import hashlib
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from benchmarks.evidence.transcript import Transcript
from devstack.instance import Instance

PAUSE_SECONDS = 0.05


@dataclass
class WaitingClient:
    """Creates users, one after the other, and reads each back as soon as the write is answered."""

    api: str
    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    stale: int = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Write and read on a thread until the block ends."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def describe(self) -> str:
        """Return what the client saw."""
        ordered = sorted(self.seconds)
        p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
        return (
            f"{len(ordered)} writes that waited, answers {dict(self.statuses)}, {self.stale} stale reads; "
            f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms"
        )

    def _run(self, stop: threading.Event) -> None:
        with httpx.Client(base_url=self.api, timeout=60) as client:
            while not stop.wait(PAUSE_SECONDS):
                body = {"name": "waits", "email": f"waits-{time.time_ns()}@example.org"}
                begun = time.perf_counter()
                written = client.post("/users", json=body)
                self.seconds.append(time.perf_counter() - begun)
                self.statuses[written.status_code] += 1
                self.stale += client.get(written.headers["Location"]).status_code != 200


def show(kata: Instance, catalogue: str) -> str:
    """Run the main job on `catalogue` (JSON Lines) and return the Markdown that shows it."""
    transcript = Transcript(kata)
    client = WaitingClient(kata.api)
    with client.at_work():
        transcript.run(
            "python benchmarks/debian_catalogue.py | python api/scripts/seed.py --from - --json",
            (sys.executable, "api/scripts/seed.py", "--from", "-", "--json"),
            text=catalogue,
        )
        begun = time.perf_counter()
        while _backlog(kata):
            time.sleep(0.2)
        drained = time.perf_counter() - begun
    transcript.note(
        f"# the backlog was 0 {drained:.1f} s after the import had ended",
        f"# meanwhile one client: {client.describe()}",
        "",
    )
    transcript.run("projector status --json", ("projector", "status", "--json"))
    transcript.run("projector verify", ("projector", "verify"))
    transcript.note("", *_rename_the_busiest_owner(kata, catalogue), "")
    before = _digest(kata)
    transcript.run("python api/scripts/clean_mongo.py", (sys.executable, "api/scripts/clean_mongo.py"))
    begun = time.perf_counter()
    transcript.run("projector replay", ("projector", "replay"))
    transcript.note(f"# {time.perf_counter() - begun:.1f} s")
    transcript.run("projector verify", ("projector", "verify"))
    same = "the same, byte for byte" if _digest(kata) == before else "DIFFERENT"
    transcript.note(f"# documents after clean and replay, compared with those before: {same}")
    return transcript.block()


def _backlog(kata: Instance) -> int:
    done = kata.run(("projector", "status", "--json"))
    return int(json.loads(done.stdout.splitlines()[-1])["backlog"])


def _rename_the_busiest_owner(kata: Instance, catalogue: str) -> list[str]:
    lines = (json.loads(line) for line in catalogue.splitlines())
    owners = Counter(line["owner_email"] for line in lines if line["kind"] == "item")
    email, count = owners.most_common(1)[0]
    with httpx.Client(base_url=kata.api, timeout=60) as client:
        owner = client.get("/users", params={"email": email}).json()[0]
        begun = time.perf_counter()
        renamed = client.put(f"/users/{owner['id']}", json={"name": "Renamed"}, headers={"Prefer": "wait=30"})
        seconds = time.perf_counter() - begun
    with MongoClient[dict[str, object]](kata.mongo) as mongo:
        reached = mongo["kata"]["items_read"].count_documents({"owner.id": owner["id"], "owner.name": "Renamed"})
    answered = f"answered {renamed.status_code} after {seconds:.2f} s"
    return [
        f"$ curl -X PUT -H 'Prefer: wait=30' -d '{{\"name\": \"Renamed\"}}' .../users/{owner['id']}",
        f"# the owner of {count} items: {answered}, and {reached} items show the new name",
    ]


def _digest(kata: Instance) -> dict[str, str]:
    with MongoClient[RawBSONDocument](kata.mongo, document_class=RawBSONDocument) as client:
        return {
            name: hashlib.sha256(b"".join(d.raw for d in client["kata"][name].find().sort("_id", 1))).hexdigest()
            for name in ("users_read", "items_read")
        }
