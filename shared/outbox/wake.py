"""What a notification on WAKE_CHANNEL says: from which message on there is work, and whether clients wait for it.

On the wire it is the lowest id in decimal digits; before it an `a` when all of the messages are awaited, a `u` when
none of them is.
"""

from dataclasses import dataclass
from typing import Final, Literal, Self

FROM_THE_START: Final = 0

Kind = Literal["awaited", "unawaited", "any"]

PREFIXES: Final[dict[Kind, str]] = {"awaited": "a", "unawaited": "u", "any": ""}
KINDS: Final[dict[str, Kind]] = {prefix: kind for kind, prefix in PREFIXES.items() if prefix}


@dataclass(frozen=True, slots=True)
class Wake:
    """There are messages from the id `lowest` on, all of this kind."""

    lowest: int
    kind: Kind = "any"

    @classmethod
    def of(cls, message_id: int, *, awaited: bool) -> Self:
        """Return the wake for one message."""
        return cls(message_id, "awaited" if awaited else "unawaited")

    def encode(self) -> str:
        """Return the payload of the notification."""
        return f"{PREFIXES[self.kind]}{self.lowest}"

    @classmethod
    def decode(cls, payload: str) -> Self:
        """Return what a payload says. Anybody may notify; what cannot be read still says that there is work."""
        kind = KINDS.get(payload[:1], "any")
        digits = payload.removeprefix(PREFIXES[kind])
        if not (digits.isascii() and digits.isdigit()):
            return cls(FROM_THE_START)
        return cls(int(digits), kind)

    def __or__(self, other: Self) -> Self:
        """Return the wake that says both."""
        return type(self)(min(self.lowest, other.lowest), self.kind if self.kind == other.kind else "any")
