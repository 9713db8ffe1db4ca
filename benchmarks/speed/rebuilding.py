"""Replay, verify and import, beside what the drivers do with the same rows and documents."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import psutil
import psycopg

from benchmarks.speed import work
from benchmarks.speed.benchmark import Benchmark, Measure, Report, Result, Scale, Target, of_figures, ratio
from benchmarks.speed.servers import ROOT, Servers, Store
from shared.mongo import ensure_read_models

ITEMS: Final = 1_000_000
FLOOR: Final = "items_floor"
IMPORTED: Final = 60_000
TABLES: Final = ("users", "items", "tags", "item_tags", "outbox")

# The rows of the documents in work.py, without their messages: they were settled long ago.
FILL: Final = """
    INSERT INTO users (name, email, version)
    SELECT 'Maintainer ' || n, 'm' || n || '@example.org', 1 FROM generate_series(1, {owners}) AS n;

    INSERT INTO tags (name)
    SELECT 'devel::lang:' || n FROM generate_series(0, 19) AS n
    UNION ALL SELECT 'role::' || n FROM generate_series(0, 6) AS n
    UNION ALL SELECT 'made-of::' || n FROM generate_series(0, 4) AS n;

    INSERT INTO items (name, description, sell_in, quality, owner_id, version)
    SELECT 'item ' || n || ' of the catalogue', 'library for reading and writing files number ' || n % 977,
           n % 30, n % 50, 1 + n % {owners}, 1
    FROM generate_series(1, {items}) AS n;

    INSERT INTO item_tags (item_id, position, tag_id)
    SELECT items.id, tag.position, tags.id
    FROM items, LATERAL (
        VALUES (1, 'devel::lang:' || items.id % 20), (2, 'role::' || items.id % 7), (3, 'made-of::' || items.id % 5)
    ) AS tag (position, name) JOIN tags ON tags.name = tag.name;

    ANALYZE users, items, tags, item_tags;
"""


def fill(store: Store, items: int) -> None:
    """Give an empty store so many rows of items, and make its read models ready."""
    store.postgres.execute(FILL.format(owners=work.OWNERS, items=items).encode())
    ensure_read_models(store.mongo)
    with store.projector():
        pass  # whose read models these are is recorded by the first one


def replay(store: Store) -> float:
    """Return the seconds of `projector replay items`, its start included."""
    begun = time.perf_counter()
    store.run("-m", "projector.cli", "replay", "items")
    return time.perf_counter() - begun


@contextmanager
def replaying(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield a replay, and insert_many of the same documents with the same indexes, in items a second."""
    number = scale.of(ITEMS)
    with servers.store() as store:
        fill(store, number)
        replay(store)
        found = list(store.mongo["items_read"].find())

        def floor() -> float:
            work.empty_items(store, FLOOR)
            return number / work.insert_many(store.mongo[FLOOR], found)

        yield lambda: number / replay(store), floor


@contextmanager
def verifying(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield `projector verify items`, and a replay, in rows a second."""
    number = scale.of(ITEMS)
    with servers.store() as store:
        fill(store, number)
        replay(store)

        def verify() -> float:
            begun = time.perf_counter()
            store.run("-m", "projector.cli", "verify", "items")
            return number / (time.perf_counter() - begun)

        yield verify, lambda: number / replay(store)


def verify_memory(benchmark: Benchmark, servers: Servers, scale: Scale, report: Report) -> Sequence[Result]:
    """Return the peak memory of `projector verify items` on all the items, over that on a tenth of them."""
    peaks: list[float] = []
    for number in (scale.of(ITEMS) // 10, scale.of(ITEMS)):
        with servers.store() as store:
            fill(store, number)
            replay(store)
            peaks.append(_peak_mebibytes(store, "-m", "projector.cli", "verify", "items"))
            report(f"{peaks[-1]:.0f} MiB with {number:,} items")
    notes = {"peaks": ", ".join(f"{peak:.0f} MiB" for peak in peaks)}
    return of_figures(benchmark, [peaks[1] / peaks[0]], notes)


def _peak_mebibytes(store: Store, *command: str) -> float:
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=dict(store.environment), stdout=subprocess.DEVNULL
    ) as process:
        peak, watched = 0, psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.01)
    return peak / 2**20


@contextmanager
def importing(servers: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield the import of a catalogue, and bare COPY of the rows that it wrote, in items a second."""
    number = scale.of(IMPORTED)
    text = "\n".join(json.dumps(entry) for entry in catalogue(number))
    with servers.store() as store, psycopg.connect(store.database_url) as other:
        _import(store, text)
        copies = [_copied_out(other, table) for table in TABLES]
        other.rollback()

        def ours() -> float:
            _empty(store)
            return number / _import(store, text)

        def bare() -> float:
            _empty(store)
            begun = time.perf_counter()
            for table, copied in zip(TABLES, copies, strict=True):
                with other.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    copy.write(copied)
            other.commit()
            return number / (time.perf_counter() - begun)

        yield ours, bare


def catalogue(items: int) -> Iterator[dict[str, object]]:
    """Yield the lines of a catalogue: some owners, and items with three tags each."""
    for n in range(work.OWNERS):
        yield {"kind": "user", "name": f"Maintainer {n}", "email": f"m{n}@example.org"}
    for n in range(items):
        yield {
            "kind": "item", "owner_email": f"m{n % work.OWNERS}@example.org", "name": f"item {n} of the catalogue",
            "description": f"library for reading and writing files number {n % 977}", "sell_in": n % 30,
            "quality": n % 50, "tags": [f"devel::lang:{n % 20}", f"role::{n % 7}", f"made-of::{n % 5}"],
        }  # fmt: skip


def _import(store: Store, text: str) -> float:
    said = store.run("api/scripts/seed.py", "--from", "-", "--json", text=text)
    return float(json.loads(said.splitlines()[-1])["seconds"])


def _empty(store: Store) -> None:
    store.postgres.execute(f"TRUNCATE {', '.join(TABLES)}".encode())
    store.postgres.execute("CHECKPOINT")


def _copied_out(connection: psycopg.Connection, table: str) -> bytes:
    found = io.BytesIO()
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} TO STDOUT".encode()) as copy:
        for part in copy:
            found.write(part)
    return found.getvalue()


REBUILDING: Final[Sequence[Benchmark]] = (
    ratio(
        "replay",
        "replay of a million items over `insert_many` of the same documents, indexes included",
        Target(0.95),
        replaying,
        unit="items/s",
        takes_long=True,
    ),
    ratio(
        "verify", "verify of a million items over replay of them", Target(6), verifying, unit="items/s", takes_long=True
    ),
    Benchmark(
        "verify-memory",
        "peak memory of verify with a million items over that with a hundred thousand",
        Target(1.1, "most"),
        verify_memory,
    ),
    ratio(
        "seed",
        "import of 60 thousand items over bare COPY of the same rows",
        Target(0.6),
        importing,
        unit="items/s",
    ),
)
