"""Who may call what: a read needs the scope `read`, anything else `write`. What is not listed here needs a token.

Asked before the route is looked for and before the body is read: who is not let in costs the service a hash, no more.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from api.problems import problem_response
from shared.access import MACHINE_PATHS, Access, AccessSettings, RefusedError
from shared.bearer import Scope

# The document and its pages are the same everywhere and show nothing of what is stored.
OPEN_PATHS: Final = MACHINE_PATHS | {"/", "/docs", "/redoc", "/openapi.json"}
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CHALLENGE: Final = "WWW-Authenticate"


class AccessMiddleware:
    """Lets in whom the settings let in. The token's name is the request's principal, and goes into its log line."""

    def __init__(self, app: ASGIApp, settings: AccessSettings) -> None:
        self._app = app
        self._access = Access(settings)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            request = Request(scope)
            # Two headers are no token: a proxy before us may have looked at the other one.
            authorization = ", ".join(request.headers.getlist("Authorization")) or None
            try:
                token = self._access.admit(authorization, needed_for(scope["method"]))
            except RefusedError as error:
                await _refusal(request, error)(scope, receive, send)
                return
            scope["principal"] = token.name
            if token.name:
                scope["log_fields"] |= {"principal": token.name, "token": token.id}
        await self._app(scope, receive, send)


def needed_for(method: str) -> Scope:
    """Return the scope that a request with this method needs."""
    return "read" if method in READS else "write"


def misdirected(request: Request, status: int, detail: str) -> Response:
    """Return the answer to a request under a name that is not ours."""
    return problem_response(request, status, "misdirected-request", detail)


def _refusal(request: Request, error: RefusedError) -> Response:
    kind = "unauthorized" if error.status == 401 else "insufficient-scope"
    return problem_response(request, error.status, kind, str(error), headers={CHALLENGE: error.challenge})
