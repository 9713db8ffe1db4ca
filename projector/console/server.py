"""Runs the console's ASGI application on a thread beside the lanes."""

import socket
import threading
from types import TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI

from projector.console.feed import Feed


class EndingServer(uvicorn.Server):
    """Lets nobody watch any longer once it is to stop: an open stream would hold it up."""

    def __init__(self, config: uvicorn.Config, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        self._feed.end()
        await super().shutdown(sockets)


class ConsoleServer:
    """A context manager: the port is bound on entry, so a port that is taken is an error at once."""

    def __init__(self, app: FastAPI, host: str, port: int, feed: Feed) -> None:
        self._socket = socket.create_server((host, port))
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=1
        )
        self._server = EndingServer(config, feed)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="console")

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
