"""What the API counts, for Prometheus. Nothing here is asked of a server but the lag, and that by a bounded look.

Labels are closed sets: routes are templates, never paths. A request to no route is `unmatched`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import psycopg
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from api.pool import Pool
from shared.look import PATIENCE_SECONDS, Look
from shared.metrics import SECONDS, create_registry, lag, store_up
from shared.outbox.lookup import OLDEST_AGE
from shared.postgres import connect
from shared.settings import Settings

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

WaitKind = Literal["write", "read"]


class ApiMetrics:
    """Told of what happens; safe to be asked from any thread."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.registry = registry = create_registry()
        self._lag = LagCollector(settings, name)
        registry.register(self._lag)
        self._requests = Counter(
            "kata_api_requests", "Requests by route and status", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "kata_api_request_seconds", "Time of a request, its waiting included", ["method", "route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._commit_seconds = Histogram(
            "kata_api_commit_seconds", "Time of a command's transaction, from the wait for a connection to the commit",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._waiters = Gauge(
            "kata_api_waiters", "Requests that wait for a projection now", ["kind"], registry=registry
        )
        self._wait_seconds = Histogram(
            "kata_api_wait_seconds", "Time that a request waited for a projection", ["kind"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._timeouts = Counter(
            "kata_api_wait_timeouts", "Waits that ended before the write could be read", ["kind"], registry=registry
        )
        for kind in ("write", "read"):
            for metric in (self._waiters, self._wait_seconds, self._timeouts):
                metric.labels(kind)

    def watch_pool(self, pool: Pool) -> None:
        """Show how the pool of PostgreSQL connections is used."""
        gauges = (
            ("limit_connections", "PostgreSQL connections that commands may have at once", lambda: pool.size),
            ("busy_connections", "PostgreSQL connections that commands have now", lambda: pool.busy),
            ("waiting_requests", "Commands that wait for a PostgreSQL connection", lambda: pool.waiting),
        )
        for suffix, help_text, read in gauges:
            Gauge(f"kata_api_pool_{suffix}", help_text, registry=self.registry).set_function(read)

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """A request is over. `route` is its template; without an answer, `status` is 0."""
        method, route = method if method in METHODS else "other", route or "unmatched"
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(method, route).observe(seconds)

    def committed(self, seconds: float) -> None:
        """A command is committed; its transaction took so long."""
        self._commit_seconds.observe(seconds)

    @contextmanager
    def waiting(self, kind: WaitKind) -> Iterator[None]:
        """Count a request that waits for its projection inside."""
        begun = time.perf_counter()
        self._waiters.labels(kind).inc()
        try:
            yield
        finally:
            self._waiters.labels(kind).dec()
            self._wait_seconds.labels(kind).observe(time.perf_counter() - begun)

    def timed_out(self, kind: WaitKind) -> None:
        """A request waited as long as it may, for nothing."""
        self._timeouts.labels(kind).inc()

    def lag_seconds(self) -> float:
        """Return the lag as it was a moment ago. Raises psycopg.Error or TimeoutError when it cannot be told."""
        return self._lag.seconds()


class LagCollector(Collector):
    """The lag as PostgreSQL knows it, so that it is seen without any projector as well."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = f"{name} metrics"
        self._look = Look(self._read)

    def seconds(self) -> float:
        """Return the lag as it was a moment ago. Raises psycopg.Error or TimeoutError when it cannot be told."""
        return self._look.answer()

    def collect(self) -> Iterator[Metric]:
        """Yield the lag, or that PostgreSQL did not tell it."""
        try:
            seconds = self.seconds()
        except (psycopg.Error, TimeoutError):
            yield store_up(postgres=False)
            return
        yield store_up(postgres=True)
        yield from lag(seconds)

    def _read(self) -> float:
        milliseconds = int(PATIENCE_SECONDS * 1000)
        with connect(self._settings, self._name, autocommit=True, statement_timeout=milliseconds) as connection:
            row = connection.execute(OLDEST_AGE).fetchone()
        if row is None:
            raise psycopg.DataError("no row")
        return float(row[0])
