"""Who may do what on the web page.

Without tokens nobody may change anything or see a payload. With tokens the numbers are open, as /metrics is; dead
letters need the scope `read`, payloads and actions `operate`.
"""

from fastapi import HTTPException, Request

from shared.access import ANYBODY, Access
from shared.bearer import Token


class ConsoleAccess:
    """Whom the settings let in, for FastAPI to ask. It raises RefusedError for whom they do not."""

    def __init__(self, access: Access) -> None:
        self._access = access

    @property
    def has_tokens(self) -> bool:
        """Whether there is any token that is good here."""
        return self._access.has_tokens

    def whoever(self, request: Request) -> Token:
        """Return the token that came with the request, ANYBODY's if none came."""
        return self._access.whoever(request.headers.get("Authorization"))

    def reader(self, request: Request) -> Token:
        """Return who reads: where there are no tokens, anybody."""
        return self._access.admit(request.headers.get("Authorization"), "read")

    def operator(self, request: Request) -> Token:
        """Return who acts. Raises 403 where there are no tokens."""
        token = self._access.admit(request.headers.get("Authorization"), "operate")
        if token is ANYBODY:
            raise HTTPException(403, "no TOKENS are set for this projector: nothing can be changed here")
        return token
