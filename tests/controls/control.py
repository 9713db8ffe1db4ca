"""What a control is: a guard, how it is taken away, and which tests must notice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class RottenControlError(RuntimeError):
    """The text that a control takes away is not in the tree, or is there more than once."""


@dataclass(frozen=True, slots=True)
class Change:
    """A text of one file, exact and there once, and what stands in its place without the guard."""

    path: str
    old: str
    new: str


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

    def texts_without(self, tree: Path) -> Mapping[str, str]:
        """Return the files of `tree` that the guard is in, as they are without it. Raises RottenControlError."""
        texts = {change.path: (tree / change.path).read_text(encoding="utf-8") for change in self.changes}
        for change in self.changes:
            found = texts[change.path].count(change.old)
            if found != 1:
                raise RottenControlError(f"{self.guard}: {change.path} has this {found} times, not once:\n{change.old}")
            texts[change.path] = texts[change.path].replace(change.old, change.new)
        return texts

    def remove_guard(self, tree: Path) -> None:
        """Take the guard away in `tree`. Raises RottenControlError."""
        for path, text in self.texts_without(tree).items():
            (tree / path).write_text(text, encoding="utf-8")
