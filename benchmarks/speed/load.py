"""A bounded load of HTTP requests on this machine: clients that send their next request after an answer."""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import uvloop

HEADERS_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sends, and the only status that is no error."""

    method: str
    path: str
    status: int
    body: bytes = b""
    headers: tuple[str, ...] = ()

    def encoded(self, host: str) -> bytes:
        """Return it as HTTP/1.1 has it."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}", *self.headers]
        if self.body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(self.body)}"]
        return "\r\n".join(lines).encode() + HEADERS_END + self.body


@dataclass(frozen=True, slots=True)
class Load:
    """What a load came to: the seconds of each request, and of the whole."""

    each: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.each) / self.seconds

    @property
    def median_milliseconds(self) -> float:
        """The median of a request."""
        return statistics.median(self.each) * 1000

    def percentile_milliseconds(self, percent: int) -> float:
        """Return the time within which so many percent of the requests were answered."""
        return statistics.quantiles(self.each, n=100)[percent - 1] * 1000


class UnexpectedStatusError(RuntimeError):
    """An answer has another status than what was measured was to have."""


def run(url: str, clients: int, next_request: Callable[[], Request], *, seconds: float) -> Load:
    """Send requests for so long and return what they came to. Raises UnexpectedStatusError for any other answer."""
    return uvloop.run(_run(url, clients, next_request, seconds))


async def _run(url: str, clients: int, next_request: Callable[[], Request], seconds: float) -> Load:
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 0
    each: list[float] = []
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(host, port, next_request, begun + seconds, each))
    return Load(each, time.perf_counter() - begun)


async def _client(host: str, port: int, next_request: Callable[[], Request], until: float, each: list[float]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    while (begun := time.perf_counter()) < until:
        request = next_request()
        writer.write(request.encoded(f"{host}:{port}"))
        head = await reader.readuntil(HEADERS_END)
        length = _content_length(head)
        body = await reader.readexactly(length) if length else b""
        if int(head[9:12]) != request.status:
            raise UnexpectedStatusError(f"{request.method} {request.path}: {head[9:12].decode()} {body[:200]!r}")
        each.append(time.perf_counter() - begun)
    writer.close()


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    return int(lowered[at + 15 : lowered.index(b"\r\n", at)]) if at >= 0 else 0
