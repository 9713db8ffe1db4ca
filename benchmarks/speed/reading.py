"""Reads by HTTP: the product beside a plain route that does one find_one, and beside the driver's own find."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import orjson
from pymongo import MongoClient

from benchmarks.speed import load, work
from benchmarks.speed.benchmark import Benchmark, Measure, Scale, Target, ratio
from benchmarks.speed.load import Request
from benchmarks.speed.servers import Document, Servers
from benchmarks.speed.writing import DUAL_WRITE

ITEMS: Final = 20_000
TAG: Final = "devel::lang:7"
PAGE: Final = 100


@contextmanager
def by_id(servers: Servers, scale: Scale, *, clients: int) -> Iterator[tuple[Measure, Measure]]:
    """Yield GET /items/{id} by so many clients, of the product and of the plain route, in requests a second."""
    seconds, number = scale.spell(3.0), scale.of(ITEMS)
    chosen = random.Random(5)  # noqa: S311 - not a secret
    with servers.store() as store, store.projector(), store.api() as url, store.serving(DUAL_WRITE) as other_url:
        work.empty_items(store)
        work.insert_many(store.mongo["items_read"], work.documents(store.postgres, 1, number))

        def get() -> Request:
            return Request("GET", f"/items/{chosen.randint(1, number)}", 200)

        yield (
            lambda: load.run(url, clients, get, seconds=seconds).rate,
            lambda: load.run(other_url, clients, get, seconds=seconds).rate,
        )


@contextmanager
def a_page(servers: Servers, scale: Scale, *, plain: bool = False) -> Iterator[tuple[Measure, Measure]]:
    """Yield a page of a tag by HTTP, and the driver's find of the same documents to JSON, in pages a second.

    By HTTP from the product, or from a `plain` route that does the same find and no more: the most there is to reach.
    """
    seconds, number = scale.spell(3.0), scale.of(ITEMS)
    with (
        servers.store() as store,
        store.projector(),
        store.serving(DUAL_WRITE) if plain else store.api() as url,
    ):
        work.empty_items(store)
        work.insert_many(store.mongo["items_read"], work.documents(store.postgres, 1, number))
        request = Request("GET", f"/items?tag={TAG}&limit={PAGE}", 200)
        with MongoClient[Document](store.settings.mongo_url.get_secret_value(), tz_aware=True) as client:
            items = client[store.settings.mongo_database]["items_read"]

            def driver() -> float:
                pages, begun = 0, time.perf_counter()
                while time.perf_counter() < begun + seconds:
                    found: list[dict[str, Any]] = list(items.find({"tags": TAG}).sort("_id").limit(PAGE))
                    orjson.dumps(found)
                    pages += 1
                return pages / (time.perf_counter() - begun)

            yield lambda: load.run(url, 1, lambda: request, seconds=seconds).rate, driver


READING: Final[tuple[Benchmark, ...]] = (
    ratio(
        "get-64",
        "GET of one item, 64 clients: throughput over a plain FastAPI route that does a find_one",
        Target(1.0, stretch=2.7),
        partial(by_id, clients=64),
        unit="requests/s",
    ),
    ratio(
        "get-1",
        "the same, one client",
        Target(0.7),
        partial(by_id, clients=1),
        unit="requests/s",
    ),
    ratio(
        "list",
        "GET of a page of 100 items by tag, one client: over the driver's own find to JSON",
        Target(0.7),
        a_page,
        unit="pages/s",
    ),
    ratio(
        "list-plain",
        "the limit of that: the same page by a plain FastAPI route that does this find and no more",
        Target(0.7),
        partial(a_page, plain=True),
        unit="pages/s",
    ),
)
