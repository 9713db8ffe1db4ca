"""Bearer tokens (RFC 6750). The setting TOKENS keeps their SHA-256 only: who reads the settings cannot act with them.

An entry is `name:scopes:sha256`, scopes joined by `+`, entries separated by commas or white space. A token is 256
random bits, so a plain hash of it cannot be guessed back. A name may have several: while one takes the place of
another, both are good, and mean the same bearer.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

Scope = Literal["read", "write", "operate"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)

PREFIX: Final = "kata_"
ENTRY: Final = re.compile(r"(?P<name>[A-Za-z0-9._@-]{1,64}):(?P<scopes>[a-z]+(\+[a-z]+)*):(?P<sha256>[0-9a-f]{64})")
# So many digits of its hash tell one token from another, and nothing of it.
ID_DIGITS: Final = 8
FORM: Final = "expected name:scopes:sha256, as `projector token NAME` prints it"


@dataclass(frozen=True, slots=True)
class Token:
    """Whom a token names, and what it is good for."""

    name: str
    scopes: frozenset[Scope]
    sha256: str

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Return the token that an entry of the setting describes. Raises ValueError, which does not quote it."""
        match = ENTRY.fullmatch(entry)
        if match is None:
            raise ValueError(FORM)
        named = match["scopes"].split("+")
        scopes = frozenset(scope for scope in SCOPES if scope in named)
        if len(scopes) != len(set(named)):
            raise ValueError(f"a scope is one of {', '.join(SCOPES)}")
        return cls(match["name"], scopes, match["sha256"])

    @property
    def id(self) -> str:
        """What the log calls this token: the first digits of its hash, as they stand in its entry."""
        return self.sha256[:ID_DIGITS]

    def may(self, scope: Scope) -> bool:
        """Return whether it is good for `scope`. Every other scope includes `read`.

        Whoever writes is shown what is written (a PUT without fields answers the whole), and whoever acts looks first.
        """
        return scope in self.scopes or (scope == "read" and bool(self.scopes))

    def entry(self) -> str:
        """Return the entry of the setting that describes this token."""
        return f"{self.name}:{'+'.join(scope for scope in SCOPES if scope in self.scopes)}:{self.sha256}"


class Tokens:
    """The tokens that are good here."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._tokens)

    @classmethod
    def parse(cls, setting: str) -> Self:
        """Return the tokens of the setting. Raises ValueError when an entry is malformed or a token comes twice."""
        tokens = [Token.parse(entry) for entry in re.split(r"[,\s]+", setting) if entry]
        if len({token.sha256 for token in tokens}) < len(tokens):
            raise ValueError("a token comes twice")
        return cls(tokens)

    def bearer(self, authorization: str | None) -> Token | None:
        """Return the token that an Authorization header carries, None when it carries none that is good here."""
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.isascii():
            return None
        presented = sha256_of(secret.strip())
        # Every one is compared, and each in constant time, so that the time taken tells nothing.
        found = [token for token in self._tokens if hmac.compare_digest(token.sha256, presented)]
        return found[0] if found else None


def sha256_of(secret: str) -> str:
    """Return what the setting keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_token(name: str, scopes: Sequence[Scope]) -> tuple[str, Token]:
    """Return a new secret and the token that describes it. Raises ValueError when the name cannot stand in an entry."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, Token.parse(Token(name, frozenset(scopes), sha256_of(secret)).entry())
