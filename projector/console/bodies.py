"""Nobody makes the projector keep a large request in memory: a body says how long it is, and is short."""

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from projector.console.problems import problem

# A thousand ids, the most that one request selects, and some room.
MAX_BYTES: Final = 65_536


class SmallBodies:
    """Middleware: refuses what is longer, or of unknown length, before any of it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 or 411, or pass the request on. The server holds a body to the length it says."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if "transfer-encoding" in headers:
            await problem(411, "a body must say how long it is")(scope, receive, send)
        elif int(headers.get("content-length", 0)) > MAX_BYTES:
            await problem(413, f"a body has {MAX_BYTES} bytes at most")(scope, receive, send)
        else:
            await self._app(scope, receive, send)
