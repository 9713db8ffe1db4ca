"""Waking the relay: what it costs the commits, and what it saves until reads show them."""

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, Final

import psycopg
from bson.raw_bson import RawBSONDocument
from psycopg import sql

from api.consistency.waker import Waker
from api.items.commands import create_item
from api.items.schemas import ItemCreate
from api.pool import Pool
from api.unit_of_work import UnitOfWork
from benchmarks.speed import work
from benchmarks.speed.benchmark import Benchmark, Measure, Report, Result, Scale, Target, of_pairs, ratio
from benchmarks.speed.ratio import Pair
from benchmarks.speed.servers import Servers, Store
from benchmarks.speed.writing import tags_of, with_an_owner
from shared.outbox.wake import PREFIXES, Wake
from shared.postgres import SETTLED_CHANNEL, WAKE_CHANNEL, connect_async

# Between two messages, with and without time for hands to be shaken by somebody else first.
PAUSE_SECONDS: Final = 0.05
REST_SECONDS: Final = 0.3
WRITERS: Final = 8

APPEND: Final = """
    INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload, awaited)
    VALUES ('user', %(id)s, 1, 'user.created', jsonb_build_object(
        'schema_version', 1, 'id', %(id)s::bigint, 'name', 'Ada', 'email', 'u' || %(id)s::text || '@example.org',
        'created_at', '2026-01-02T03:04:05.678Z', 'updated_at', '2026-01-02T03:04:05.678Z'), true)
    RETURNING id
"""
APPEND_AND_NOTIFY: Final = (
    f"WITH added AS ({APPEND}) SELECT id, pg_notify('{WAKE_CHANNEL}', '{PREFIXES['awaited']}' || id) FROM added"
)


@contextmanager
def committing(servers: Servers, scale: Scale, *, writers: int) -> Iterator[tuple[Measure, Measure]]:
    """Yield the commits a second of so many writers, each of which wakes the relay, or does not."""
    seconds = scale.spell(4.0)
    with servers.store() as store:
        with_an_owner(store)

        def rate(*, wakes: bool) -> float:
            store.postgres.execute("TRUNCATE outbox")
            return asyncio.run(_commit_rate(store, writers, seconds, wakes=wakes))

        yield partial(rate, wakes=True), partial(rate, wakes=False)


async def _commit_rate(store: Store, writers: int, seconds: float, *, wakes: bool) -> float:
    pool = Pool(store.settings, "bench", size=writers, timeout=30)
    waker = Waker(store.settings, "bench waker")
    listener = await connect_async(store.settings, "bench listener")
    await listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(WAKE_CHANNEL)))
    waking, listening = asyncio.create_task(waker.run()), asyncio.create_task(_listen(listener))
    numbers, commits = count(), 0

    async def write(until: float) -> None:
        nonlocal commits
        while time.perf_counter() < until:
            n = next(numbers)
            new = ItemCreate(name=f"item {n}", sell_in=1, quality=2, owner_id=1, tags=tags_of(n))
            await create_item(UnitOfWork(pool, awaited=True, trace_context=None, waker=waker if wakes else None), new)
            commits += 1

    begun = time.perf_counter()
    await asyncio.gather(*(write(begun + seconds) for _ in range(writers)))
    took = time.perf_counter() - begun
    for task in (waking, listening):
        task.cancel()
    await asyncio.gather(waking, listening, return_exceptions=True)
    await listener.close()
    await pool.close()
    return commits / took


async def _listen(connection: psycopg.AsyncConnection[Any]) -> None:
    async for _ in connection.notifies():
        pass


@contextmanager
def idle(servers: Servers, scale: Scale, *, pause: float) -> Iterator[tuple[Measure, Measure]]:
    """Yield the median from a commit to its settling on an idle installation, and of one durable write, in ms."""
    rounds, ids = scale.times(int(5.0 / pause)), count(1)
    with servers.store() as store, store.projector(), psycopg.connect(store.database_url, autocommit=True) as listener:
        listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(SETTLED_CHANNEL)))
        floor = store.mongo["floor"]
        document = work.documents(store.postgres, 1, 1)[0]

        def ours() -> float:
            return statistics.median(_visible_after(store, listener, next(ids), pause) for _ in range(rounds)) * 1000

        def one_write() -> float:
            written = (_written_after(floor, document | {"_id": next(ids)}, pause) for _ in range(rounds))
            return statistics.median(written) * 1000

        yield ours, one_write


def _visible_after(store: Store, listener: psycopg.Connection, number: int, pause: float) -> float:
    time.sleep(pause)
    row = store.postgres.execute(APPEND, {"id": number}).fetchone()
    assert row is not None  # noqa: S101 - RETURNING has a row
    begun = time.perf_counter()
    store.postgres.execute("SELECT pg_notify(%s, %s)", (WAKE_CHANNEL, Wake(row[0], "awaited").encode()))
    for _ in listener.notifies(timeout=30, stop_after=1):
        pass
    return time.perf_counter() - begun


def _written_after(floor: Any, document: Mapping[str, Any] | RawBSONDocument, pause: float) -> float:
    time.sleep(pause)
    begun = time.perf_counter()
    floor.insert_one(document)
    return time.perf_counter() - begun


# Percentiles of so few seconds differ: it takes some rounds to tell two of them apart.
LOAD_ROUNDS: Final = 10

Lags = tuple[float, float]  # p50 and p99, in milliseconds

# Nothing but its polls tells a poller, so its polls come often.
PROJECTORS: Final[Mapping[tuple[str, ...], Mapping[str, str]]] = {
    ("wake", "notify"): {},
    ("poll",): {"POLL_INTERVAL_SECONDS": "0.01"},
}


def under_load(benchmark: Benchmark, servers: Servers, scale: Scale, report: Report, *, rate: int) -> Sequence[Result]:
    """Return p50 and p99 of the lag at `rate` writes a second, over those of polling, and of NOTIFY in the command."""
    seconds = scale.spell(6.0)
    found: dict[str, list[Lags]] = {"wake": [], "notify": [], "poll": []}
    with servers.store() as store:
        ids = count(1)
        for number in range(1 + scale.times(LOAD_ROUNDS)):
            for modes, settings in PROJECTORS.items():
                with store.projector(**settings):
                    for mode in modes:
                        p50, p99 = asyncio.run(_lags(store, ids, rate, seconds, mode))
                        found[mode].append((p50, p99))
                        report(f"round {number + 1}, {mode}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    results: list[Result] = []
    for other, said in (("poll", "polling every 10 ms"), ("notify", "NOTIFY in the command's transaction")):
        rounds_of_both = list(zip(found["wake"][1:], found[other][1:], strict=True))
        for place, (percent, most) in enumerate((("p50", 1.0), ("p99", 1.2))):
            what = Benchmark(
                f"{benchmark.name}-{percent}-{other}",
                f"{benchmark.measures}: {percent} over that of {said}",
                Target(most, "most"),
                benchmark.run,
            )
            pairs = [Pair(ours[place], theirs[place]) for ours, theirs in rounds_of_both]
            results.append(of_pairs(what, pairs, "ms", {}))
    return results


async def _lags(store: Store, ids: Iterator[int], rate: int, seconds: float, mode: str) -> Lags:
    committed: dict[int, float] = {}
    visible: dict[int, float] = {}
    waker = Waker(store.settings, "bench waker")
    listener = await connect_async(store.settings, "bench listener")
    await listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(SETTLED_CHANNEL)))

    async def listen() -> None:
        async for notification in listener.notifies():
            now = time.perf_counter()
            for settled in notification.payload.partition(" ")[2].split(","):
                visible[int(settled)] = now

    async def write(begun: float, place: int) -> None:
        async with await connect_async(store.settings, "bench writer", autocommit=False) as connection:
            for n in range(int(rate * seconds / WRITERS)):
                due = begun + (n + place / WRITERS) * WRITERS / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                statement = APPEND_AND_NOTIFY if mode == "notify" else APPEND
                row = await (await connection.execute(statement, {"id": next(ids)})).fetchone()
                message_id = int(row[0]) if row else 0
                if mode == "wake":
                    await waker.commit(connection, Wake(message_id, "awaited"))
                else:
                    await connection.commit()
                committed[message_id] = time.perf_counter()

    tasks = [asyncio.create_task(waker.run()), asyncio.create_task(listen())]
    await asyncio.sleep(0.1)
    begun = time.perf_counter() + 0.1
    await asyncio.gather(*(write(begun, place) for place in range(WRITERS)))
    until = time.perf_counter() + 30
    while len(visible) < len(committed) and time.perf_counter() < until:  # noqa: ASYNC110 - two growing counts
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await listener.close()
    # One that was settled before its writer came to look at the clock was visible at once.
    lags = [max(visible[message_id] - at, 0.0) * 1000 for message_id, at in committed.items()]
    percentiles = statistics.quantiles(lags, n=100)
    return percentiles[49], percentiles[98]


WAKING: Final[tuple[Benchmark, ...]] = (
    *(
        ratio(
            f"wake-{writers}",
            f"commit rate of commands that wake the relay over those that do not, {writers} writers",
            Target(0.97),
            partial(committing, writers=writers),
            unit="commits/s",
        )
        for writers in (8, 32)
    ),
    ratio(
        "lag-idle",
        "from a commit to where reads show it, idle: median over one write that a majority has journaled",
        Target(2, "most"),
        partial(idle, pause=PAUSE_SECONDS),
        unit="ms",
    ),
    ratio(
        "lag-rested",
        "the same after a rest, when hands are shaken as well",
        Target(2, "most"),
        partial(idle, pause=REST_SECONDS),
        unit="ms",
    ),
    *(
        Benchmark(f"lag-{rate}", f"lag at {rate} writes a second", Target(1.0, "most"), partial(under_load, rate=rate))
        for rate in (500, 2000)
    ),
)
