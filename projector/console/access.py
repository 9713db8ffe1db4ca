"""Who may do what on the web page.

Without tokens nobody may change anything or see a payload, and the page answers to this machine's own names only: a
page of another host that had its name resolve to 127.0.0.1 (DNS rebinding) is refused. With tokens the numbers are
open, as /metrics is; dead letters need the scope `read`, payloads and actions `operate`. A token comes in the
Authorization header alone: what a browser sends by itself proves nothing.
"""

from typing import Final

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from projector.console.problems import problem
from projector.settings import ProjectorSettings, is_loopback
from shared.bearer import Scope, Token, Tokens

# Asked by machines, under whatever name they know.
OPEN_PATHS: Final = frozenset({"/health", "/ready", "/metrics"})
ANYBODY: Final = Token("anybody", frozenset(), "")


class Access:
    """Whom the settings let in."""

    def __init__(self, settings: ProjectorSettings) -> None:
        self._tokens = Tokens.parse(settings.tokens)

    @property
    def has_tokens(self) -> bool:
        """Whether there is any token that is good here."""
        return bool(self._tokens)

    def whoever(self, request: Request) -> Token:
        """Return the token that came with the request, ANYBODY's if none came. Raises 401 for one that is not good."""
        authorization = request.headers.get("Authorization")
        token = self._tokens.bearer(authorization)
        if token is None and authorization is not None:
            raise HTTPException(
                401, "this token is not good here", {"WWW-Authenticate": 'Bearer error="invalid_token"'}
            )
        return token or ANYBODY

    def reader(self, request: Request) -> Token:
        """Return who reads: where there are no tokens, anybody."""
        return self._scoped(request, "read") if self._tokens else ANYBODY

    def operator(self, request: Request) -> Token:
        """Return who acts. Raises 403 where there are no tokens."""
        if not self._tokens:
            raise HTTPException(403, "no TOKENS are set for this projector: nothing can be changed here")
        return self._scoped(request, "operate")

    def _scoped(self, request: Request, scope: Scope) -> Token:
        token = self.whoever(request)
        if token is ANYBODY:
            raise HTTPException(401, f"this needs a token with scope {scope}", {"WWW-Authenticate": "Bearer"})
        # Whoever may act may look.
        if not token.scopes & {scope, "operate"}:
            header = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
            raise HTTPException(403, f"the token {token.name} does not have the scope {scope}", header)
        return token


class OwnNamesOnly:
    """Middleware: without tokens, a port that is open to this machine alone is asked under this machine's names."""

    def __init__(self, app: ASGIApp, settings: ProjectorSettings) -> None:
        self._app = app
        self._guards = not settings.tokens.strip() and is_loopback(settings.http_address)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer 421 to any other name."""
        if self._guards and scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            host = Request(scope).url.hostname or ""
            if not is_loopback(host):
                refusal = problem(421, "this port answers to localhost only, unless TOKENS are set")
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)
