"""Draining beside other outbox relays and queues, each installed into an environment of its own for this benchmark.

Same machine, same servers, same documents and the same write concern; their own recommended settings.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import orjson

from benchmarks.speed import work
from benchmarks.speed.benchmark import Benchmark, Measure, Scale, Target, ratio
from benchmarks.speed.drain import creates
from benchmarks.speed.servers import ROOT, Servers, Store
from devstack.scratch import scratch_directory

PEERS: Final = {
    "txoutbox": ("txoutbox_peer.py", "txoutbox[postgres]==0.2.2"),
    "pgqueuer": ("pgqueuer_peer.py", "pgqueuer[asyncpg]==1.6.0"),
    "faststream-outbox": ("faststream_peer.py", "faststream-outbox[asyncpg]==0.19.0"),
}
FILES: Final = Path(__file__).parent / "rivals" / "peers"
THEIRS: Final = 2_000
COLLECTION: Final = "items_peer"
FASTEST: Final = "txoutbox"


@contextmanager
def against(servers: Servers, scale: Scale, *, peer: str, bare: bool = False) -> Iterator[tuple[Measure, Measure]]:
    """Yield the drain of new items by one projector process, and that of the peer, in messages a second.

    `bare`: the driver's insert_many instead of the projector, the most there is to reach.
    """
    file, requirement = PEERS[peer]
    number = scale.of(THEIRS)
    with scratch_directory() as directory, creates(servers, scale) as (drain, insert_many):
        python = _environment(directory, requirement)
        documents = directory / "documents.jsonl"
        with servers.store() as store:
            found = work.documents(store.postgres, 1, number)
        documents.write_bytes(b"\n".join(orjson.dumps(document) for document in found) + b"\n")

        def theirs() -> float:
            # A store of its own each time: what a round leaves claimed does not stand in the way of the next.
            with servers.store() as store:
                work.empty_items(store, COLLECTION)
                _run(store, python, file, documents, "fill", number)
                seconds = float(_run(store, python, file, documents, "drain", number).splitlines()[-1])
                if store.mongo[COLLECTION].count_documents({}) != number:
                    raise AssertionError(f"{peer} has not written every document")
            return number / seconds

        yield insert_many if bare else drain, theirs


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


def _benchmark(name: str, measures: str, *, peer: str, bare: bool = False) -> Benchmark:
    return ratio(
        f"drain-peer-{name}",
        measures,
        Target(20),
        partial(against, peer=peer, bare=bare),
        unit="messages/s",
        notes=lambda: {"installed": PEERS[peer][1]},
    )


AGAINST_PEERS: Final[tuple[Benchmark, ...]] = (
    *(
        _benchmark(peer, f"drain of new items by one projector process over that of {peer}", peer=peer)
        for peer in PEERS
    ),
    _benchmark(
        "limit",
        f"the limit of that: bare `insert_many` of the same documents over the drain of {FASTEST}, the fastest of them",
        peer=FASTEST,
        bare=True,
    ),
)
