"""How many inputs each test has tried, as hypothesis counts them: `make fuzz` has it written for EVIDENCE.md."""

import os
import re
from pathlib import Path
from typing import Final

import pytest

RESULT: Final = os.environ.get("FUZZ_RESULT", "")
PASSED: Final = re.compile(r"(\d+) passing")


class Tried:
    """A plugin: writes a table when every test has passed."""

    def __init__(self, result: Path) -> None:
        self._result = result
        self._inputs: dict[str, int] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Take note of what a test has tried."""
        statistics = getattr(item, "hypothesis_statistics", "")
        name = item.name.removeprefix("test_").replace("_", " ")
        self._inputs[name] = sum(map(int, PASSED.findall(statistics)))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Write the table."""
        if exitstatus == 0:
            rows = [f"| {name} | {number:,} |" for name, number in self._inputs.items() if number]
            self._result.write_text(
                "\n".join(["| what was held | inputs |", "|---|---:|", *rows, ""]), encoding="utf-8"
            )
