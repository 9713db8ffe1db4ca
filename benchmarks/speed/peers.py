"""Draining beside other outbox relays and queues, each installed into an environment of its own for this benchmark.

Same machine, same servers, same documents and the same write concern; their own recommended settings.
"""

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from benchmarks.speed import work
from benchmarks.speed.benchmark import Benchmark, Report, Result, Scale, Target, of_pairs
from benchmarks.speed.ratio import interleaved
from benchmarks.speed.servers import ROOT, Servers, Store
from devstack.scratch import scratch_directory

PEERS: Final = {
    "txoutbox": ("txoutbox_peer.py", "txoutbox[postgres]==0.2.2"),
    "pgqueuer": ("pgqueuer_peer.py", "pgqueuer[asyncpg]==1.6.0"),
    "faststream-outbox": ("faststream_peer.py", "faststream-outbox[asyncpg]==0.19.0"),
}
FILES: Final = Path(__file__).parent / "rivals" / "peers"
OURS: Final = 50_000
THEIRS: Final = 2_000
COLLECTION: Final = "items_peer"
FASTEST: Final = "txoutbox"


def against(
    benchmark: Benchmark, servers: Servers, scale: Scale, report: Report, *, peer: str, bare: bool = False
) -> Sequence[Result]:
    """Return the drain of new items by one projector process over that of the peer, both in messages a second.

    `bare`: the driver's insert_many instead of the projector, the most there is to reach.
    """
    file, requirement = PEERS[peer]
    number, theirs = scale.of(OURS), scale.of(THEIRS)
    with scratch_directory() as directory, servers.store() as store, store.projector():
        python = _environment(directory, requirement)
        documents = directory / "documents.jsonl"
        found = work.documents(store.postgres, 1, theirs)
        documents.write_bytes(b"\n".join(orjson.dumps(document) for document in found) + b"\n")

        many = work.documents(store.postgres, 1, number) if bare else []

        def floor() -> float:
            work.empty_items(store)
            return number / work.insert_many(store.mongo["items_read"], many)

        def ours() -> float:
            work.empty_items(store)
            with work.held_back(store) as held:
                work.append_items(held, 1, number)
            return number / work.drained_in(store, number)

        def measured() -> float:
            # A store of its own each time: what a round leaves claimed does not stand in the way of the next.
            with servers.store() as other:
                work.empty_items(other, COLLECTION)
                _run(other, python, file, documents, "fill", theirs)
                seconds = float(_run(other, python, file, documents, "drain", theirs).splitlines()[-1])
                if other.mongo[COLLECTION].count_documents({}) != theirs:
                    raise AssertionError(f"{peer} has not written every document")
            return theirs / seconds

        pairs = interleaved(
            floor if bare else ours,
            measured,
            seconds=scale.seconds / 2,
            fewest=scale.fewest_rounds,
            warm_up=scale.warm_up,
            on_round=lambda so_far: report(str(so_far)),
        )
    return [of_pairs(benchmark, pairs, "messages/s", {"installed": requirement})]


def _environment(directory: Path, requirement: str) -> str:
    """Make a virtual environment with the peer and the driver of MongoDB; return its Python."""
    python = str(directory / "venv" / "bin" / "python")
    for command in (
        ("venv", "--python", sys.executable, directory / "venv"),
        ("pip", "install", "--python", python, requirement, "pymongo"),
    ):
        subprocess.run([sys.executable, "-m", "uv", "--quiet", *command], check=True)
    return python


def _run(store: Store, python: str, file: str, documents: Path, verb: str, count: int) -> str:
    environment = {**store.environment, "DOCUMENTS": str(documents)}
    done = subprocess.run(
        [python, FILES / file, verb, str(count)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{file} {verb} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


AGAINST_PEERS: Final[tuple[Benchmark, ...]] = (
    *(
        Benchmark(
            f"drain-peer-{peer}",
            f"drain of new items by one projector process over that of {peer}",
            Target(20),
            partial(against, peer=peer),
        )
        for peer in PEERS
    ),
    Benchmark(
        "drain-peer-limit",
        f"the limit of that: bare `insert_many` of the same documents over the drain of {FASTEST}, the fastest of them",
        Target(20),
        partial(against, peer=FASTEST, bare=True),
    ),
)
