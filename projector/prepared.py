"""Statements that a lane's session has prepared, so that several can be sent at once.

A round trip costs a client who waits more than most statements do. What is sent as one simple query PostgreSQL runs one
statement after the other, each with a snapshot of its own (its documentation, "Message Flow"). Such a query takes no
parameters, so the values are spelled into it; and it would be planned each time, so its statements are prepared.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import psycopg

BEGIN: Final = "BEGIN"
COMMIT: Final = "COMMIT"

# In a session with it a text has no escapes but the doubled quote.
NO_ESCAPES: Final = "SET standard_conforming_strings = on"

Value = None | int | float | str | bytes

_PARAMETER: Final = re.compile(r"%\((\w+)\)s")


class Prepared:
    """A statement under the name that it has in a session. Its parameters are written as the driver's: %(name)s."""

    def __init__(self, name: str, statement: str) -> None:
        self.name = name
        self.statement = statement
        self._parameters = list(dict.fromkeys(_PARAMETER.findall(statement)))

    def preparation(self) -> str:
        """Return the command that prepares it."""
        places = {name: f"${place}" for place, name in enumerate(self._parameters, 1)}
        return f"PREPARE {self.name} AS {_PARAMETER.sub(lambda found: places[found[1]], self.statement)}"

    def call(self, parameters: Mapping[str, Value]) -> str:
        """Return the command that runs it with these values, for a session with NO_ESCAPES in which it is prepared."""
        return f"EXECUTE {self.name}({', '.join([_spelled(parameters[name]) for name in self._parameters])})"


def together(connection: psycopg.Connection, *commands: str) -> psycopg.Cursor[Any]:
    """Run commands one after the other, in one round trip; return a cursor with a result for each."""
    return connection.execute("; ".join(commands).encode(), prepare=False)


def _spelled(value: Value) -> str:
    """Return a value in SQL. The driver does it for more types, and takes as long as the server for the statement."""
    match value:
        case None:
            return "NULL"
        case int() | float():
            return repr(value)
        case bytes():
            return f"'\\x{value.hex()}'"
        case str():
            return "'" + value.replace("'", "''") + "'"
