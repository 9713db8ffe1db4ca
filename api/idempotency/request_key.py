"""The identity of a request that may come twice, and what tells whether it is really the same."""

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A client's key, which counts per principal and route, and the SHA-256 of the body that came with it."""

    principal: str
    route: str
    key: str
    request_hash: bytes

    @property
    def lock(self) -> tuple[int, int]:
        """The advisory lock of this key: two signed 32-bit numbers.

        Locks of two numbers are a space of their own in PostgreSQL, so this one is never that of the read models or
        of an import, which are one number. Two keys of one number cost a client a 409 and a second try.
        """
        identity = json.dumps([self.principal, self.route, self.key]).encode()
        first, second = struct.unpack(">ii", hashlib.sha256(identity).digest()[:8])
        return first, second


def hash_of(body: Any) -> bytes:
    """Return the SHA-256 of a decoded JSON body: spacing and the order of members make no difference."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).digest()
