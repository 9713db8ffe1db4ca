"""What a control is: a guard, how it is taken away, and which tests must notice."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class RottenControlError(AssertionError):
    """The text that a control takes away is not in the tree, or is there more than once."""


@dataclass(frozen=True, slots=True)
class Change:
    """A text of one file, exact and there once, and what stands in its place without the guard."""

    path: str
    old: str
    new: str

    def apply(self, tree: Path) -> None:
        """Make the change in `tree`. Raises RottenControlError."""
        file = tree / self.path
        text = file.read_text(encoding="utf-8")
        found = text.count(self.old)
        if found != 1:
            raise RottenControlError(f"{self.path} has this {found} times, not once:\n{self.old}")
        file.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """A guard that is taken away. Of every test in `noticed_by` at least one case must fail, by an assertion.

    `serves` is what the guard is for: an invariant, by its number, or a promise. `without` says what the product does
    once the guard is gone.
    """

    guard: str
    serves: str
    without: str
    changes: Sequence[Change]
    noticed_by: Sequence[str]

    def remove_guard(self, tree: Path) -> None:
        """Take the guard away in `tree`. Raises RottenControlError."""
        for change in self.changes:
            change.apply(tree)
