"""What a notification on WAKE_CHANNEL says: from which message on there is work, and whether clients wait for it all.

On the wire it is the lowest id in decimal digits, with an `a` before it when all of the messages are awaited.
"""

from dataclasses import dataclass
from typing import Final, Self

FROM_THE_START: Final = 0
AWAITED: Final = "a"


@dataclass(frozen=True, slots=True)
class Wake:
    """There are messages from the id `lowest` on."""

    lowest: int
    awaited_only: bool = False

    def encode(self) -> str:
        """Return the payload of the notification."""
        return f"{AWAITED if self.awaited_only else ''}{self.lowest}"

    @classmethod
    def decode(cls, payload: str) -> Self:
        """Return what a payload says. Anybody may notify; what cannot be read still says that there is work."""
        digits = payload.removeprefix(AWAITED)
        if not (digits.isascii() and digits.isdigit()):
            return cls(FROM_THE_START)
        return cls(int(digits), awaited_only=digits != payload)

    def __or__(self, other: Self) -> Self:
        """Return the wake that says both."""
        return type(self)(min(self.lowest, other.lowest), self.awaited_only and other.awaited_only)
