"""The consistency token: opaque to clients, it names one message of one history of one installation.

On the wire: base64url without padding of 16 bytes history, 8 bytes message id (big-endian) and the CRC-32
(zlib) of both, which tells a token that was cut or mistyped from one of another installation.
"""

import base64
import binascii
import struct
import zlib
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from api.errors import TokenError

HEADER_NAME: Final = "Consistency-Token"
# 28 bytes; the last of the 38 characters carries two bits.
PATTERN: Final = "^[A-Za-z0-9_-]{37}[AQgw]$"

_WIRE: Final = struct.Struct(">16sQI")


@dataclass(frozen=True, slots=True)
class Token:
    """Which write a read has to see."""

    history: UUID
    message_id: int

    def encode(self) -> str:
        """Return the token as it goes into the header."""
        checksum = zlib.crc32(self._content)
        wire = _WIRE.pack(self.history.bytes, self.message_id, checksum)
        return base64.urlsafe_b64encode(wire).decode().rstrip("=")

    @classmethod
    def decode(cls, header: str) -> Self:
        """Return the token in `header`. Raises TokenError when it is not one."""
        try:
            wire = base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_", validate=True)
            history, message_id, checksum = _WIRE.unpack(wire)
        except (binascii.Error, ValueError, struct.error) as error:
            raise TokenError("it is not one that a write answered") from error
        token = cls(UUID(bytes=history), message_id)
        if checksum != zlib.crc32(token._content) or message_id > 2**63 - 1:
            raise TokenError("it was changed on its way")
        return token

    @property
    def _content(self) -> bytes:
        return self.history.bytes + self.message_id.to_bytes(8)
