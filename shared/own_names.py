"""Without tokens, a port that is open to this machine alone is asked under this machine's names, or not at all.

A page of another host that has its name resolve to 127.0.0.1 (DNS rebinding) would get in by a browser of this machine.
"""

import re
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.access import MACHINE_PATHS, AccessSettings, is_loopback

REFUSAL: Final = "This port answers to localhost only, unless TOKENS or ALLOW_INSECURE_BIND are set"
_HOST: Final = re.compile(r"(?P<name>.*?)(:[0-9]*)?")


class OwnNamesOnly:
    """Middleware: answers 421 to any other name, by `refuse`, which makes the answer of a status and a text."""

    def __init__(self, app: ASGIApp, settings: AccessSettings, refuse: Callable[[Request, int, str], ASGIApp]) -> None:
        self._app = app
        self._guards = not settings.has_tokens and is_loopback(settings.http_address)
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if self._guards and scope["type"] == "http" and scope["path"] not in MACHINE_PATHS:
            request = Request(scope)
            # Read by ourselves: for a name that it takes for malformed the framework would put in our own address.
            host = _HOST.fullmatch(request.headers.get("host", ""))
            if host is None or not is_loopback(host["name"].lower()):
                await self._refuse(request, 421, REFUSAL)(scope, receive, send)
                return
        await self._app(scope, receive, send)
