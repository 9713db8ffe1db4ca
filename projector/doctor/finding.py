"""What a check finds, and what a check is. A check looks and changes nothing."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from projector.settings import ProjectorSettings


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"  # writes do not become visible, or what is read is wrong
    WARNING = "warning"  # everything works still


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: its cause in a sentence, and the remedy with the command to run."""

    cause: str
    remedy: str
    severity: Severity = Severity.ERROR
    details: Mapping[str, Any] = field(default_factory=dict)


Look = Callable[[ProjectorSettings], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at. It is not looked at when a check that it `needs` found an error."""

    name: str
    look: Look
    needs: tuple[str, ...] = ()


class NotSeenError(Exception):
    """What a check is about cannot be seen from here. The message says why."""
