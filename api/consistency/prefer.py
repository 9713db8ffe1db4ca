"""The Prefer header (RFC 7240), as far as it is about waiting. A malformed one is ignored, as the RFC asks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_WAIT_SECONDS: Final = 30

_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = rf'(?:{_NAME}|"(?:[^"\\]|\\.)*")'
_PREFERENCE: Final = re.compile(
    rf"\s*(?P<name>{_NAME})(?:\s*=\s*(?P<value>{_VALUE})?)?"
    rf"(?:\s*;\s*(?:{_NAME}(?:\s*=\s*(?:{_VALUE})?)?)?)*\s*"
)


@dataclass(frozen=True, slots=True)
class Preference:
    """How long the write waits, and what to say about it in Preference-Applied."""

    wait_seconds: float
    applied: str | None

    @property
    def waits(self) -> bool:
        """Whether the write waits at all."""
        return self.wait_seconds > 0


def parse_prefer(header: str | None, default_seconds: float) -> Preference:
    """Return what `header` asks for: `wait=N` waits at most N seconds, `respond-async` does not wait.

    Both together wait N seconds and then answer 202. The first of two equal preferences counts.
    """
    asked: dict[str, str] = {}
    for name, value in _preferences(header or ""):
        asked.setdefault(name.lower(), value.strip('"'))
    respond_async = asked.get("respond-async") == ""
    wait = asked.get("wait", "")
    seconds: float | None = min(int(wait), MAX_WAIT_SECONDS) if re.fullmatch(r"[0-9]{1,9}", wait) else None
    applied = ["respond-async"] * respond_async + ([f"wait={seconds}"] if seconds is not None else [])
    if seconds is None:
        seconds = 0 if respond_async else default_seconds
    return Preference(seconds, ", ".join(applied) or None)


def _preferences(header: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(header):
        if header[position] in ", \t":
            position += 1
            continue
        match = _PREFERENCE.match(header, position)
        if match is None or (match.end() < len(header) and header[match.end()] != ","):
            return
        yield match["name"], match["value"] or ""
        position = match.end() + 1
