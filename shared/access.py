"""Who is let in over HTTP: one mechanism for API and projector, by bearer tokens (RFC 6750).

Without tokens anybody is, and so the port is open to this machine alone, unless that is waived in so many words.
A token comes in the Authorization header alone: what a browser sends by itself proves nothing.
"""

from abc import abstractmethod
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, Literal

from pydantic import Field, field_validator

from shared.bearer import Scope, Token, Tokens
from shared.logs import get_logger
from shared.settings import Settings

LOOPBACK: Final = "127.0.0.1"
# Asked by machines, which have no token, under whatever name they know. They tell numbers, and nothing that is stored.
MACHINE_PATHS: Final = frozenset({"/health", "/ready", "/metrics"})
ANYBODY: Final = Token("", frozenset(), "")

# The names of log lines. The port was not opened to others, though it was asked for: asked_for.
BOUND_TO_LOOPBACK: Final = "access.bound_to_loopback"
# Whoever reaches this address is let in: address.
OPEN_TO_ANYBODY: Final = "access.open_to_anybody"

_log = get_logger("access")


class AccessSettings(Settings):
    """Who is let in. The same for API and projector, so that one token is good at both."""

    tokens: str = Field(
        default="",
        description="Who is let in: entries that `projector token NAME` prints. None: anybody on this machine",
    )
    allow_insecure_bind: bool = Field(
        default=False,
        description="Without TOKENS, listen on API_HOST and PROJECTOR_HTTP_HOST all the same, not only on loopback",
    )

    @field_validator("tokens")
    @classmethod
    def _are_tokens(cls, value: str) -> str:
        Tokens.parse(value)
        return value

    @property
    def has_tokens(self) -> bool:
        """Whether any token is set, so that whoever has none is not let in."""
        return bool(Tokens.parse(self.tokens))

    @property
    @abstractmethod
    def http_host(self) -> str:
        """Where HTTP is asked to be answered."""

    @property
    def http_address(self) -> str:
        """Where HTTP is answered: without tokens on this machine alone, unless that is waived in so many words."""
        host = self.http_host
        return host if self.has_tokens or self.allow_insecure_bind or is_loopback(host) else LOOPBACK

    def warn_of_exposure(self) -> None:
        """Log what an operator should know of where the port is open, or is not."""
        if self.http_address != self.http_host:
            _log.warning(BOUND_TO_LOOPBACK, asked_for=self.http_host)
        elif not self.has_tokens and not is_loopback(self.http_address):
            _log.warning(OPEN_TO_ANYBODY, address=self.http_address)


class RefusedError(Exception):
    """A request that is not let in; its text is for the client. `challenge` is the value of WWW-Authenticate."""

    def __init__(self, status: Literal[401, 403], detail: str, challenge: str) -> None:
        self.status = status
        self.challenge = challenge
        super().__init__(detail)


class Access:
    """Whom the settings let in."""

    def __init__(self, settings: AccessSettings) -> None:
        self._tokens = Tokens.parse(settings.tokens)

    @property
    def has_tokens(self) -> bool:
        """Whether there is any token that is good here."""
        return bool(self._tokens)

    def whoever(self, authorization: str | None) -> Token:
        """Return the token in this header, ANYBODY's without a header. Raises RefusedError for one that is not good."""
        token = self._tokens.bearer(authorization)
        if token is None and authorization is not None:
            raise RefusedError(401, "The token is not good here", _challenge(error="invalid_token"))
        return token or ANYBODY

    def admit(self, authorization: str | None, scope: Scope) -> Token:
        """Return the token that is let in for `scope`; where there are no tokens, ANYBODY's. Raises RefusedError."""
        if not self._tokens:
            # What came with the request is passed over: clients may get their tokens before the service asks for them.
            return ANYBODY
        token = self.whoever(authorization)
        if token is ANYBODY:
            raise RefusedError(401, f"This needs a token with the scope {scope}", _challenge(scope=scope))
        if not token.may(scope):
            detail = f"The token {token.name} does not have the scope {scope}"
            raise RefusedError(403, detail, _challenge(error="insufficient_scope", scope=scope))
        return token


@lru_cache(maxsize=100)
def is_loopback(host: str) -> bool:
    """Return whether an address, or `localhost`, is reached from this machine only."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _challenge(**parameters: str) -> str:
    """Return a challenge of RFC 6750, section 3, which asks for at least one parameter."""
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in {"realm": "kata", **parameters}.items())
