"""A yardstick for waking: how soon one hears of a commit who streams the WAL, beside the product's notification.

Nothing of this is in the product. A slot keeps the server's WAL for whoever streams it, for as long as that takes.
Formats: https://www.postgresql.org/docs/15/protocol-replication.html and protocol-logicalrep-message-formats.html.
"""

import select
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from queue import Empty, SimpleQueue
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus, PGconn

from benchmarks.speed.benchmark import Benchmark, Measure, Scale, Target, ratio
from benchmarks.speed.servers import Servers
from devstack.postgres import Postgres
from devstack.scratch import scratch_directory
from shared.outbox.wake import Wake
from shared.postgres import WAKE_CHANNEL

PAUSE_SECONDS: Final = 0.01
WAIT_SECONDS: Final = 10.0
# `w`, three numbers of 8 bytes, and the message of the plugin, whose first byte is its kind.
HEADER_BYTES: Final = 25
XLOG_DATA, COMMIT = b"w", b"C"

START: Final = b"START_REPLICATION SLOT bench LOGICAL 0/0 (proto_version '1', publication_names 'bench')"

TABLE: Final = """
    CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL);
    CREATE PUBLICATION bench FOR TABLE outbox
"""
INSERT: Final = "INSERT INTO outbox (payload) VALUES (jsonb_build_object('name', %s::text)) RETURNING id"


def _stream(dsn: str, heard: SimpleQueue[float], stop: threading.Event) -> None:
    connection = PGconn.connect(make_conninfo(dsn, replication="database").encode())
    connection.exec_(b"CREATE_REPLICATION_SLOT bench TEMPORARY LOGICAL pgoutput")
    started = connection.exec_(START)
    if started.status != ExecStatus.COPY_BOTH:
        raise RuntimeError(f"the WAL is not streamed: {started.error_message.decode()}")
    heard.put(0.0)
    while not stop.is_set():
        select.select([connection.socket], [], [], 0.1)
        connection.consume_input()
        while (message := connection.get_copy_data(1))[0] > 0:
            data = bytes(message[1])
            if data[:1] == XLOG_DATA and data[HEADER_BYTES : HEADER_BYTES + 1] == COMMIT:
                heard.put(time.perf_counter())
    connection.finish()


def _listen(dsn: str, heard: SimpleQueue[float], stop: threading.Event) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(WAKE_CHANNEL)))
        heard.put(0.0)
        while not stop.is_set():
            for _ in connection.notifies(timeout=0.1, stop_after=1):
                heard.put(time.perf_counter())


@contextmanager
def hearing(_: Servers, scale: Scale) -> Iterator[tuple[Measure, Measure]]:
    """Yield the median from sending a commit to where it is heard: by notification, and by the WAL; in ms."""
    rounds, numbers, stop = scale.times(200), count(), threading.Event()
    with ExitStack() as stack:
        directory = stack.enter_context(scratch_directory())
        settings = {"wal_level": "logical"}
        dsn = stack.enter_context(Postgres.start(directory / "postgres", settings=settings)).dsn
        writer, waker = (stack.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(2))
        writer.execute(TABLE)
        queues: dict[str, SimpleQueue[float]] = {"wal": SimpleQueue(), "notify": SimpleQueue()}
        for name, target in (("wal", _stream), ("notify", _listen)):
            thread = threading.Thread(target=target, args=(dsn, queues[name], stop), daemon=True)
            thread.start()
            stack.callback(thread.join, WAIT_SECONDS)
        stack.callback(stop.set)
        for queue in queues.values():
            queue.get(timeout=WAIT_SECONDS)

        def once(name: str, *, wakes: bool) -> float:
            time.sleep(PAUSE_SECONDS)
            for queue in queues.values():
                _empty(queue)
            begun = time.perf_counter()
            row = writer.execute(INSERT, (f"item {next(numbers)}",)).fetchone()
            if wakes and row:
                waker.execute("SELECT pg_notify(%s, %s)", (WAKE_CHANNEL, Wake(row[0], "awaited").encode()))
            return (queues[name].get(timeout=WAIT_SECONDS) - begun) * 1000

        def median(name: str, *, wakes: bool) -> Callable[[], float]:
            return lambda: statistics.median(once(name, wakes=wakes) for _ in range(rounds))

        yield median("notify", wakes=True), median("wal", wakes=False)


def _empty(queue: SimpleQueue[float]) -> None:
    with suppress(Empty):
        while True:
            queue.get_nowait()


WAL: Final[tuple[Benchmark, ...]] = (
    ratio(
        "hear-wal",
        "from sending a commit to where a listener hears of it: by notification after it over by streaming the WAL",
        Target(1.5, "most"),
        hearing,
        unit="ms",
    ),
)
