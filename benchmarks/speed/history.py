"""What does not grow: claims behind a million settled messages, a projector's memory, and all that reads and writes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Final

import psutil
import psycopg

from benchmarks import bloat
from benchmarks.speed import load, rebuilding, work
from benchmarks.speed.benchmark import Benchmark, Measure, Report, Result, Scale, Target, of_figures, of_pairs, ratio
from benchmarks.speed.load import Request
from benchmarks.speed.ratio import interleaved
from benchmarks.speed.servers import Servers, Store
from benchmarks.speed.writing import new_item
from projector.batch import prepare_to_relay

SETTLED: Final = 1_000_000
CLAIMED: Final = 20_000
SIZES: Final = (10_000, 100_000, 1_000_000)
FIRST_NEW: Final = 100_000_000


@contextmanager
def claiming(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield claims behind a million settled messages that no vacuum removes, and fresh ones, in messages a second."""
    with servers.store() as old, servers.store() as fresh, bloat.pinned_horizon(old.database_url):
        last = bloat.settle(old.postgres, scale.of(SETTLED))
        for store in (old, fresh):
            # The planner must not look at the ends of an index, at every claim, through all that is dead.
            prepare_to_relay(store.postgres)
        yield partial(_claim_rate, old.postgres, [last]), partial(_claim_rate, fresh.postgres, [0])


def _claim_rate(connection: psycopg.Connection, last: list[int]) -> float:
    with connection.transaction():
        connection.execute(bloat.INSERT, (CLAIMED,))
    begun, claimed = time.perf_counter(), 0
    while claimed < CLAIMED:
        found = work.claim(connection, last[0])
        claimed, last[0] = claimed + len(found), max(row[0] for row in found)
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


def growth(benchmark: Benchmark, servers: Servers, scale: Scale, report: Report) -> Sequence[Result]:
    """Return what reads, writes and a drain come to beside more items, and behind as many settled messages."""
    results: list[Result] = []
    with ExitStack() as stack:
        few, *others = (stack.enter_context(_grown(servers, scale.of(size))) for size in SIZES)
        for name, (said, unit, measure) in MEASURES.items():
            for size, other in zip(SIZES[1:], others, strict=True):
                what = replace(benchmark, name=f"{benchmark.name}-{name}-{size}", measures=said.format(size=size))
                pairs = interleaved(
                    partial(measure, other, scale),
                    partial(measure, few, scale),
                    seconds=scale.seconds,
                    fewest=scale.fewest_rounds,
                    warm_up=scale.warm_up,
                    on_round=lambda so_far, what=what: report(f"{what.name}: {so_far}"),
                )
                results.append(of_pairs(what, pairs, unit, {}))
    return results


@dataclass(slots=True)
class Grown:
    """An installation that has been in use: its API's URL, how many items it has, and the last id it was sent."""

    store: Store
    url: str
    items: int
    last_id: int = FIRST_NEW


@contextmanager
def _grown(servers: Servers, items: int) -> Iterator[Grown]:
    """Yield an installation with so many items, in which as many messages were settled."""
    with servers.store() as store:
        rebuilding.fill(store, items)
        rebuilding.replay(store)
        bloat.settle(store.postgres, items)
        with store.projector(), store.api() as url:
            yield Grown(store, url, items)


def _read(grown: Grown, scale: Scale) -> float:
    number = count()

    def get() -> Request:
        return Request("GET", f"/items/{1 + next(number) * 7919 % grown.items}", 200)

    return load.run(grown.url, 16, get, seconds=scale.spell(2.0)).rate


def _write(grown: Grown, scale: Scale) -> float:
    rate = load.run(grown.url, 16, new_item(), seconds=scale.spell(2.0)).rate
    work.wait_idle(grown.store)
    return rate


def _drain(grown: Grown, scale: Scale) -> float:
    number = scale.of(20_000)
    with work.held_back(grown.store) as held:
        work.append_items(held, grown.last_id, number)
    grown.last_id += number
    return number / work.drained_in(grown.store, number)


def _insert(grown: Grown, scale: Scale) -> float:
    """Return what the driver makes of the same documents: how much of a drain's growth is MongoDB's own."""
    number = scale.of(20_000)
    found = work.documents(grown.store.postgres, grown.last_id, number)
    grown.last_id += number
    return number / work.insert_many(grown.store.mongo["items_read"], found)


MEASURES: Final[Mapping[str, tuple[str, str, Callable[[Grown, Scale], float]]]] = {
    "get": ("GET of one item, 16 clients: with {size:,} items over ten thousand", "requests/s", _read),
    "post": ("POST that waits, 16 clients: with {size:,} items over ten thousand", "requests/s", _write),
    "drain": ("drain of new items: beside {size:,} over beside ten thousand", "messages/s", _drain),
    "insert": ("the limit of that: bare `insert_many` of the same documents", "documents/s", _insert),
}


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
    Benchmark("growth", "what reads, writes and drains come to beside more items", Target(0.9), growth),
)
