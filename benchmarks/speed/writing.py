"""Writes by HTTP: the product, which waits for its projector process, beside the naive dual write in the request."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Final

from benchmarks.speed import load, work
from benchmarks.speed.benchmark import Benchmark, Measure, Scale, Sides, Target, ratio
from benchmarks.speed.load import Load, Request
from benchmarks.speed.rivals import bulk_insert
from benchmarks.speed.servers import Servers, Store, wait_until
from shared.read_models import ITEMS_READ

DUAL_WRITE: Final = (sys.executable, "-m", "benchmarks.speed.rivals.dual_write")
RESPOND_ASYNC: Final = ("Prefer: respond-async",)
TAGS: Final = {"devel::lang:": 20, "role::": 7, "made-of::": 5}
IMPORTED: Final = 1_000_000
FIRST_IMPORTED: Final = 1_000_000_000


def new_item(*, status: int = 201, headers: tuple[str, ...] = ()) -> Callable[[], Request]:
    """Return what makes requests that create items, each another."""
    numbers = count(1)

    def request() -> Request:
        n = next(numbers)
        item = {"name": f"item {n} of the catalogue", "sell_in": n % 30, "quality": n % 50, "owner_id": 1}
        text = {"description": f"library for reading and writing files number {n % 977}"}
        tags = {"tags": tags_of(n)}
        return Request("POST", "/items", status, json.dumps(item | text | tags).encode(), headers)

    return request


@contextmanager
def writing(
    servers: Servers,
    scale: Scale,
    *,
    clients: int,
    figure: Callable[[Load], float],
    status: int,
    headers: tuple[str, ...],
) -> Iterator[tuple[Measure, Measure]]:
    """Yield POST /items by so many clients, to the product and to the dual write."""
    seconds = scale.spell(4.0)
    with servers.store() as store, servers.store() as other, store.projector(), store.api() as url:
        for each in (store, other):
            with_an_owner(each)
        with other.serving(DUAL_WRITE) as other_url:
            requests, other_requests = new_item(status=status, headers=headers), new_item()

            def ours() -> float:
                measured = figure(load.run(url, clients, requests, seconds=seconds))
                # What was not waited for is not done in the other's time.
                work.wait_idle(store)
                return measured

            yield ours, lambda: figure(load.run(other_url, clients, other_requests, seconds=seconds))


@contextmanager
def during_an_import(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield the median of POST /items by one client while a million messages drain, and while nothing does."""
    number, first = scale.of(IMPORTED), count(FIRST_IMPORTED, IMPORTED)
    with servers.store() as store, store.projector(), store.api() as url:
        with_an_owner(store)
        requests = new_item()

        def ours() -> float:
            with work.held_back(store) as held:
                work.append_items(held, next(first), number)
            work.wake(store.postgres)
            found = load.run(url, 1, requests, seconds=scale.spell(10.0)).median_milliseconds
            if work.is_idle(store):
                raise AssertionError("the import had drained before the measurement ended")
            work.wait_idle(store)
            return found

        def idle() -> float:
            return load.run(url, 1, requests, seconds=scale.spell(5.0)).median_milliseconds

        yield ours, idle


@contextmanager
def beside_a_bulk(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield the median of the dual write's POST, one client, while the driver inserts in bulk and while nobody does."""
    with servers.store() as store:
        with_an_owner(store)
        work.empty_items(store, ITEMS_READ.name, bulk_insert.COLLECTION)
        work.insert_many(store.mongo[ITEMS_READ.name], work.documents(store.postgres, FIRST_IMPORTED, work.BATCH))
        with store.serving(DUAL_WRITE) as url:
            requests = new_item()

            def median(seconds: float) -> float:
                return load.run(url, 1, requests, seconds=scale.spell(seconds)).median_milliseconds

            def beside() -> float:
                work.empty_items(store, bulk_insert.COLLECTION)
                with store.process([sys.executable, "-m", bulk_insert.__name__]) as process:
                    wait_until(store.mongo[bulk_insert.COLLECTION].find_one, "it inserts", process)
                    return median(10.0)

            yield beside, lambda: median(5.0)


def tags_of(number: int) -> list[str]:
    """Return the tags of the item of this number."""
    return [f"{prefix}{number % many}" for prefix, many in TAGS.items()]


def with_an_owner(store: Store) -> None:
    """Give the store a user, whose items are created, and their tags: of two that bring one the naive write fails."""
    store.postgres.execute("INSERT INTO users (name, email, version) VALUES ('Ada', 'ada@example.org', 1)")
    for prefix, number in TAGS.items():
        store.postgres.execute(
            "INSERT INTO tags (name) SELECT %s || n FROM generate_series(0, %s) AS n", (prefix, number - 1)
        )


def _throughput(clients: int, *, status: int = 201, headers: tuple[str, ...] = ()) -> Sides:
    return partial(writing, clients=clients, figure=lambda found: found.rate, status=status, headers=headers)


_LATENCY: Final[Sides] = partial(
    writing, clients=1, figure=lambda found: found.median_milliseconds, status=201, headers=()
)

WRITING: Final[tuple[Benchmark, ...]] = (
    ratio(
        "post-1",
        "POST that waits, one client: median over the naive dual write's",
        Target(1.2, "most", stretch=1.0),
        _LATENCY,
        unit="ms",
    ),
    ratio("post-16", "the same, 16 clients: throughput", Target(1.3), _throughput(16), unit="requests/s"),
    ratio("post-64", "the same, 64 clients: throughput", Target(1.3), _throughput(64), unit="requests/s"),
    ratio(
        "post-async",
        "POST that does not wait, 16 clients: throughput over the naive dual write's",
        Target(1.5),
        _throughput(16, status=202, headers=RESPOND_ASYNC),
        unit="requests/s",
    ),
    ratio(
        "post-import",
        "POST that waits while a million imported messages drain, one client: median over the idle one",
        Target(3, "most"),
        during_an_import,
        unit="ms",
        takes_long=True,
    ),
    ratio(
        "post-import-limit",
        "the limit of that: the naive dual write's POST while a bare `insert_many` writes beside it, over the idle one",
        Target(3, "most"),
        beside_a_bulk,
        unit="ms",
    ),
)
