"""What does not grow: claims behind a million settled messages, a projector's memory, and all that reads and writes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import psutil
import psycopg

from benchmarks import bloat
from benchmarks.speed import load, rebuilding, work
from benchmarks.speed.benchmark import Benchmark, Measure, Report, Result, Scale, Target, of_figures, ratio
from benchmarks.speed.load import Request
from benchmarks.speed.servers import Servers, Store
from benchmarks.speed.writing import new_item
from projector import outbox

SETTLED: Final = 1_000_000
CLAIMED: Final = 20_000
FEW: Final = 10_000
MANY: Final = 1_000_000
FIRST_NEW: Final = 100_000_000


@contextmanager
def claiming(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield claims behind a million settled messages that no vacuum removes, and fresh ones, in messages a second."""
    with servers.store() as old, servers.store() as fresh, bloat.pinned_horizon(old.database_url):
        last = bloat.settle(old.postgres, scale.of(SETTLED))
        yield partial(_claim_rate, old.postgres, [last]), partial(_claim_rate, fresh.postgres, [0])


def _claim_rate(connection: psycopg.Connection, last: list[int]) -> float:
    with connection.transaction():
        connection.execute(bloat.INSERT, (CLAIMED,))
    begun, claimed = time.perf_counter(), 0
    while claimed < CLAIMED:
        with connection.transaction():
            messages = outbox.claim(connection, after=last[0], limit=work.BATCH)
        claimed += len(messages)
        last[0] = messages[-1].id
    return CLAIMED / (time.perf_counter() - begun)


def memory(benchmark: Benchmark, servers: Servers, scale: Scale, report: Report) -> Sequence[Result]:
    """Return the memory of a projector after a tenth of a backlog of a million, and after all of it."""
    number, found = scale.of(SETTLED), []
    with servers.store() as store:
        with work.held_back(store) as held:
            work.append_items(held, 1, number)
        with store.projector() as process:
            watched = psutil.Process(process.pid)
            for part in (number // 10, number):
                store.wait_settled(part)
                found.append(watched.memory_info().rss / 2**20)
                report(f"{found[-1]:.0f} MiB after {part:,} messages")
    growth = found[1] / found[0]
    return of_figures(benchmark, found, {"all over the first tenth": f"{growth:.2f}"})


@contextmanager
def grown(servers: Servers, scale: Scale, *, measure: str) -> Iterator[tuple[Measure, Measure]]:
    """Yield a figure of an installation with a million items, and of one with ten thousand."""
    sizes = scale.of(MANY), scale.of(FEW)
    with servers.store() as large, servers.store() as small:
        for store, size in zip((large, small), sizes, strict=True):
            rebuilding.fill(store, size)
            rebuilding.replay(store)
        with large.projector(), small.projector(), large.api() as large_url, small.api() as small_url:
            seconds = 1.0 if scale.quick else 3.0

            def get(url: str, size: int) -> float:
                number = iter(range(10**9))
                requests = lambda: Request("GET", f"/items/{1 + next(number) * 7919 % size}", 200)  # noqa: E731
                return load.run(url, 16, requests, seconds=seconds).rate

            def post(url: str, store: Store) -> float:
                rate = load.run(url, 16, new_item(), seconds=seconds).rate
                work.wait_idle(store)
                return rate

            yield {
                "get": (partial(get, large_url, sizes[0]), partial(get, small_url, sizes[1])),
                "post": (partial(post, large_url, large), partial(post, small_url, small)),
                "drain": (partial(_drain_new, large, [0], scale), partial(_drain_new, small, [0], scale)),
            }[measure]


def _drain_new(store: Store, rounds: list[int], scale: Scale) -> float:
    number = scale.of(20_000)
    rounds[0] += 1
    with work.held_back(store) as held:
        work.append_items(held, FIRST_NEW + rounds[0] * number, number)
    return number / work.drained_in(store, number)


HISTORY: Final[tuple[Benchmark, ...]] = (
    ratio(
        "claim",
        "claim rate behind a million settled messages under a transaction that pins the horizon, over a fresh one",
        Target(0.95),
        claiming,
        unit="messages/s",
    ),
    Benchmark(
        "memory", "memory of a projector after a backlog of a million messages", Target(150, "most", unit="MiB"), memory
    ),
    ratio(
        "growth-get",
        "GET of one item, 16 clients: with a million items over ten thousand",
        Target(0.9),
        partial(grown, measure="get"),
        unit="requests/s",
    ),
    ratio(
        "growth-post",
        "POST that waits, 16 clients: with a million items over ten thousand",
        Target(0.9),
        partial(grown, measure="post"),
        unit="requests/s",
    ),
    ratio(
        "growth-drain",
        "drain of new items: beside a million over beside ten thousand",
        Target(0.9),
        partial(grown, measure="drain"),
        unit="messages/s",
    ),
)
