"""The row of a user."""

from dataclasses import dataclass

from shared.rows.row import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow(Row):
    """A user as the write model has it."""

    name: str
    email: str
