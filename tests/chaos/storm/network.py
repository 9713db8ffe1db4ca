"""The network between the processes. Every link, from one process to one server, can be cut by itself.

Each server is reached through a listener of its own, by clients and by its peers. Whose connection it is the kernel
tells: the socket at its other end belongs to a process. So this needs Linux's /proc.

A cut link loses nothing: what was sent is on its way until the link is whole again, and arrives then, however late, as
it does when a cable is plugged in again; or the connections are reset and what was on its way is lost.
"""

import asyncio
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from weakref import WeakSet

import uvloop

from devstack.ports import HOST

CHUNK: Final = 65_536
# SO_LINGER with time 0: a reset instead of an end.
RESET: Final = struct.pack("ii", 1, 0)
TCP_TABLE: Final = Path("/proc/net/tcp")
NOBODY: Final = "nobody"  # a process that is not of this world; its links are never cut

T = TypeVar("T")


class Link:
    """The connections from one process to one server."""

    def __init__(self) -> None:
        self.cuts = 0
        self.is_whole = asyncio.Event()
        self.is_whole.set()
        self.open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Let nothing pass. To be mended as often as it was cut."""
        self.cuts += 1
        self.is_whole.clear()

    def mend(self, *, reset: bool) -> None:
        """Let everything pass again, or begin with a reset of every connection there is."""
        self.cuts -= 1
        if reset:
            for connection in [each for each in self.open if not each.is_closing()]:
                connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.transport.abort()
        if not self.cuts:
            self.is_whole.set()


class Network:
    """Carries connections on a thread of its own. `processes` tells the id of each process, by name."""

    def __init__(self, processes: Callable[[], Mapping[str, int]]) -> None:
        self._processes = processes
        self._links: defaultdict[tuple[str, str], Link] = defaultdict(Link)
        self._listeners: list[asyncio.Server] = []
        self._streams: WeakSet[asyncio.StreamWriter] = WeakSet()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(self, server: str, port: int) -> int:
        """Carry connections to the server that listens on `port`; return the port by which everybody reaches it."""

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # At the end tasks are cancelled, which streams would take for an error.
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(server, port, reader, writer)

        async def listening() -> int:
            listener = await asyncio.start_server(accepted, HOST)
            self._listeners.append(listener)
            return int(listener.sockets[0].getsockname()[1])

        return self._do(listening())

    @contextmanager
    def cut(self, links: Iterable[tuple[str, str]], *, reset: bool) -> Iterator[None]:
        """Inside, nothing passes between these processes and servers. `reset`: what was on its way is lost."""
        links = list(links)

        async def cut() -> None:
            for link in links:
                self._links[link].cut()

        async def mend() -> None:
            for link in links:
                self._links[link].mend(reset=reset)

        self._do(cut())
        try:
            yield
        finally:
            self._do(mend())

    async def _carry(self, server: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (_, here), (_, peer) = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        link = self._links[self._whose(peer, here), server]
        link.open.add(writer)
        self._streams.add(writer)
        try:
            await link.is_whole.wait()
            there, back = await asyncio.open_connection(HOST, port)
            link.open.add(back)
            self._streams.add(back)
            ways = [asyncio.create_task(_pass(link, *way)) for way in ((reader, back), (there, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                await link.is_whole.wait()  # not even an end passes
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                link.open.discard(back)
                back.close()
        finally:
            link.open.discard(writer)
            writer.close()

    def _whose(self, port: int, listener: int) -> str:
        """Return the name of the process that has connected from `port` to `listener`."""
        # Local and remote address, state, two queues, a timer, retransmissions, user, time-out: then the inode.
        row = rf": \w+:{port:04X} \w+:{listener:04X} (?:\S+ +){{6}}(\d+) "
        found = re.search(row, TCP_TABLE.read_text(encoding="ascii"))
        end = found and f"socket:[{found[1]}]"
        for name, process in self._processes().items():
            with suppress(OSError):
                for file in Path(f"/proc/{process}/fd").iterdir():
                    with suppress(OSError):
                        if str(file.readlink()) == end:
                            return name
        return NOBODY

    async def _end(self) -> None:
        for listener in self._listeners:
            listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # One that was closed waits until the other side takes what was written, which it may never do.
        for stream in list(self._streams):
            stream.transport.abort()
            with suppress(OSError):
                await stream.wait_closed()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


async def _pass(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        await link.is_whole.wait()
        writer.write(data)
        await writer.drain()
