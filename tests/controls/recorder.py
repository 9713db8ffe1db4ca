"""A pytest plugin that writes down how each test ended, and by what: `-p tests.controls.recorder --outcomes FILE`."""

import ast
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Ask where to write."""
    parser.addoption("--outcomes", type=Path, required=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write a line for each phase of each test."""
    report = yield
    outcome: dict[str, Any] = {"test": item.nodeid, "phase": report.when, "passed": report.passed}
    if call.excinfo is not None:
        crash = getattr(report.longrepr, "reprcrash", None)
        outcome |= {
            "error": call.excinfo.exconly().splitlines()[0],
            "is_assertion": call.excinfo.errisinstance((AssertionError, pytest.fail.Exception)),
            "file": str(_relative(Path(crash.path), item.config.rootpath)) if crash else "",
            "statement": _statement(Path(crash.path), crash.lineno) if crash else "",
        }
    with item.config.getoption("--outcomes").open("a", encoding="utf-8") as file:
        file.write(json.dumps(outcome) + "\n")
    return report


def _statement(file: Path, line: int) -> str:
    """Return the innermost statement that `line` belongs to, the first line of it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    around = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno]
    return ast.unparse(max(around, key=lambda node: node.lineno)).splitlines()[0] if around else ""


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path
