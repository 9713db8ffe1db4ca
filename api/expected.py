"""What a client expects of an aggregate that it is about to change: the versions it has seen.

A command checks it under the row's lock. So of two that expect the same versions only one goes on, and no update is
lost.
"""

from dataclasses import dataclass
from typing import Final

from api.errors import PreconditionFailedError

# The versions that one answer shows: a user's own; an item's own and its owner's.
Versions = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VersionSet:
    """Some versions, or all there can be."""

    some: frozenset[Versions] = frozenset()
    everything: bool = False

    def __contains__(self, versions: Versions) -> bool:
        return self.everything or versions in self.some


NONE: Final = VersionSet()
ALL: Final = VersionSet(everything=True)


@dataclass(frozen=True, slots=True)
class Expected:
    """The current versions must be one of these, and none of those."""

    one_of: VersionSet = ALL
    none_of: VersionSet = NONE

    def check(self, current: Versions) -> None:
        """Raise PreconditionFailedError unless `current` is as expected."""
        if current not in self.one_of or current in self.none_of:
            raise PreconditionFailedError(current)
