"""Every control there is, read from tests/controls/guards/*.toml."""

import tomllib
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from tests.controls.control import Control

GUARDS: Final = Path(__file__).parent / "guards"

_CONTROLS: Final = TypeAdapter(tuple[Control, ...])


def controls() -> tuple[Control, ...]:
    """Return all of them, in the order in which they are written."""
    files = [tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(GUARDS.glob("*.toml"))]
    return _CONTROLS.validate_python([control for file in files for control in file["control"]])
