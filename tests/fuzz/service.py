"""The API as an ASGI application, asked without a server in between: a request may hold any bytes."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.types import Message

from api.app import create_app
from api.settings import ApiSettings

JSON: Final = (b"content-type", b"application/json")
RawHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """What the application answered."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.content)


class Service:
    """An application that has started."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner) -> None:
        self._app = app
        self._runner = runner

    def ask(self, method: str, path: str, *, query: bytes = b"", headers: RawHeaders = (), body: bytes = b"") -> Answer:
        """Return the answer to one request. `path` is percent-encoded. Fails on anything but one whole answer."""
        return self._runner.run(self._ask(method, path, query, headers, body))

    async def _ask(self, method: str, path: str, query: bytes, headers: RawHeaders, body: bytes) -> Answer:
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(path), "raw_path": path.encode("ascii"), "root_path": "", "query_string": query,
            "headers": [(b"host", b"localhost"), *headers], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        sent: list[Message] = []
        received: Iterator[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            message = next(received, None)
            if message is None:
                await asyncio.Event().wait()  # the client stays
            assert message is not None
            return message

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start, *rest = sent
        assert start["type"] == "http.response.start"
        assert [message["type"] for message in rest] == ["http.response.body"]
        names = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], names, rest[0]["body"])


@contextmanager
def running(settings: ApiSettings) -> Iterator[Service]:
    """Start the application, and stop it at the end."""
    app = create_app(settings)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        runner.run(stack.enter_async_context(app.router.lifespan_context(app)))
        try:
            yield Service(app, runner)
        finally:
            runner.run(stack.aclose())
