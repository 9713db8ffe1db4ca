"""Draining a backlog: a projector process beside one connection of MongoDB's driver with the same documents."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import count
from typing import Final

import psutil

from benchmarks.speed import work
from benchmarks.speed.benchmark import Benchmark, Measure, Report, Result, Scale, Target, of_figures, ratio
from benchmarks.speed.servers import Document, Servers, Store
from shared.background import in_background
from shared.mongo import ensure_read_models
from shared.read_models import ITEMS_READ, USERS_READ

FLOOR: Final = "items_floor"
VERSIONS: Final = 4
RENAMED_ITEMS: Final = 4_000
OWNER: Final = 1
ROUNDS_OF_CORES: Final = 7


def _append(store: Store, number: int, version: int = 1, to_version: int = 0) -> None:
    """Commit the messages of `number` items at once."""
    with work.held_back(store) as held:
        work.append_items(held, 1, number, version, to_version)


def _backlog(store: Store, number: int, version: int = 1) -> float:
    """Commit the messages of `number` items at once, and return how many events a second are settled."""
    _append(store, number, version)
    return number / work.drained_in(store, number)


@contextmanager
def creates(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield the drain of new items, and insert_many of the same documents, in events a second."""
    number = scale.of(50_000)
    with servers.store() as store, store.projector():
        found = work.documents(store.postgres, 1, number)

        def ours() -> float:
            work.empty_items(store)
            return _backlog(store, number)

        def floor() -> float:
            work.empty_items(store, FLOOR)
            return number / work.insert_many(store.mongo[FLOOR], found)

        yield ours, floor


@contextmanager
def updates(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield the drain of updates, and gated replacements by one connection, in events a second."""
    number, version, floor_version = scale.of(30_000), count(2), count(2)
    with servers.store() as store, store.projector():
        work.empty_items(store, ITEMS_READ.name, FLOOR)
        for name in (ITEMS_READ.name, FLOOR):
            work.insert_many(store.mongo[name], work.documents(store.postgres, 1, number))

        def ours() -> float:
            return _backlog(store, number, next(version))

        def floor() -> float:
            found = work.documents(store.postgres, 1, number, next(floor_version))
            return number / work.gated_replace(store.mongo[FLOOR], found)

        yield ours, floor


@contextmanager
def versions(servers: Servers, scale: Scale, *, bare: bool = False) -> Iterator[tuple[Measure, Measure]]:
    """Yield the drain of four versions of each item, and writing every event, in events a second.

    `bare`: the claims beside insert_many of the newest versions instead of the drain, the most there is to reach.
    """
    number = scale.of(20_000)
    with servers.store() as store, nullcontext() if bare else store.projector():
        each = [work.documents(store.postgres, 1, number, version) for version in range(1, VERSIONS + 1)]

        def ours() -> float:
            work.empty_items(store)
            _append(store, number, to_version=VERSIONS)
            seconds = _bare(store, each[-1]) if bare else work.drained_in(store, number * VERSIONS)
            return number * VERSIONS / seconds

        def floor() -> float:
            work.empty_items(store, FLOOR)
            items = store.mongo[FLOOR]
            first, *others = each
            seconds = work.insert_many(items, first) + sum(work.gated_replace(items, found) for found in others)
            return number * VERSIONS / seconds

        yield ours, floor


def _bare(store: Store, documents: Sequence[Document]) -> float:
    begun = time.perf_counter()
    claiming = in_background(partial(work.claim_all, store.postgres))
    work.insert_many(store.mongo[ITEMS_READ.name], documents)
    if claiming.result() != len(documents) * VERSIONS:
        raise AssertionError("other messages were claimed than those that were appended")
    return time.perf_counter() - begun


@contextmanager
def owners(servers: Servers, scale: Scale, *, whole: bool = False) -> Iterator[tuple[Measure, Measure]]:
    """Yield a rename that reaches four thousand items, and the bare update_many, in renames a second.

    `whole`: it sets the owner as one value.
    """
    number, version, floor_version = scale.of(RENAMED_ITEMS), count(2), count(2)
    with servers.store() as store, store.projector():
        ensure_read_models(store.mongo, (USERS_READ,))
        work.empty_items(store, ITEMS_READ.name, FLOOR)
        for name in (ITEMS_READ.name, FLOOR):
            found: list[Document] = work.documents(store.postgres, 1, number * 5)
            for document in found:
                # One owner of a fifth, in between those of others.
                document["owner"] |= {"id": OWNER if document["_id"] % 5 == 0 else 2}
            work.insert_many(store.mongo[name], found)

        def ours() -> float:
            with work.held_back(store) as held:
                work.append_user(held, OWNER, next(version))
            return 1 / work.drained_in(store, 1)

        def floor() -> float:
            return 1 / work.update_owner(store.mongo[FLOOR], OWNER, next(floor_version), number, whole=whole)

        yield ours, floor


@contextmanager
def two_processes(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield the drain of new items by two projector processes, and by one, in events a second."""
    number = scale.of(50_000)
    with servers.store() as one, servers.store() as two, ExitStack() as stack:
        stack.enter_context(one.projector())
        for _ in range(2):
            stack.enter_context(two.projector())

        def measured(store: Store) -> float:
            work.empty_items(store)
            return _backlog(store, number)

        yield lambda: measured(two), lambda: measured(one)


def cores_left(benchmark: Benchmark, servers: Servers, scale: Scale, report: Report) -> Sequence[Result]:
    """Return the processors' time over the part of it that one projector and its databases use while they drain."""
    number, found = scale.of(50_000), []
    with servers.store() as store, store.projector():
        for _ in range(scale.times(ROUNDS_OF_CORES)):
            work.empty_items(store)
            _append(store, number)
            before = psutil.cpu_times()
            work.drained_in(store, number)
            spent = [after - then for after, then in zip(psutil.cpu_times(), before, strict=True)]
            idle = dict(zip(before._fields, spent, strict=True))["idle"]
            found.append(sum(spent) / (sum(spent) - idle))
            report(f"{found[-1]:.2f}")
    return of_figures(benchmark, found)


DRAIN: Final[tuple[Benchmark, ...]] = (
    ratio(
        "drain-creates",
        "drain of new items by one projector process over `insert_many` of the same documents",
        Target(0.9, stretch=1.0),
        creates,
        unit="events/s",
    ),
    ratio(
        "drain-updates",
        "drain of updates by one projector process over gated replacements by one connection",
        Target(1.3),
        updates,
        unit="events/s",
    ),
    ratio(
        "drain-versions",
        "drain of four versions of each item over writing every event by one connection",
        Target(5),
        versions,
        unit="events/s",
    ),
    ratio(
        "drain-versions-limit",
        "the limit of that: bare claims beside a bare `insert_many` of the newest versions over writing every event",
        Target(5),
        partial(versions, bare=True),
        unit="events/s",
    ),
    ratio(
        "drain-owners",
        "a rename that reaches four thousand items over the bare `update_many` of the same fields",
        Target(0.8),
        owners,
        unit="renames/s",
    ),
    ratio(
        "drain-owners-whole",
        "the same over an `update_many` that sets the owner as a whole",
        Target(0.8),
        partial(owners, whole=True),
        unit="renames/s",
    ),
    ratio("drain-two", "drain by two projector processes over one", Target(1.2), two_processes, unit="events/s"),
    Benchmark(
        "drain-two-limit",
        "the limit of that: all of the processors' time over what one projector and its databases use of it",
        Target(1.2),
        cores_left,
    ),
)
