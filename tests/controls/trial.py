"""A trial: tests run in a copy of the tree, by a pytest of its own, and what came out."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.controls.control import Control

# What is generated, and what is no part of the project.
LEFT_OUT: Final = shutil.ignore_patterns(".*", "__pycache__", "htmlcov", "*.egg-info")
TEST_SECONDS: Final = 120
START_SECONDS: Final = 120
# A condition that is waited for in vain proves nothing: the machine may be slow.
WAITING: Final = "tests/fixtures/waiting.py"


@dataclass(frozen=True, slots=True)
class Trial:
    """How the phases of the tests ended, as tests/controls/recorder.py writes them, and what pytest printed."""

    outcomes: Sequence[Mapping[str, Any]]
    output: str

    def missed(self, control: Control) -> list[str]:
        """Return those of the control's tests that did not notice, each with the reason."""
        return [f"{test}: {self._reason(test)}" for test in control.noticed_by if self.assertion(test) is None]

    def assertion(self, test: str) -> tuple[str, str] | None:
        """Return the assertion by which a case of this test noticed that something is wrong, and what it said."""
        noticed = ((case["statement"], case["error"]) for case in self._cases(test) if _is_noticed(case))
        return next(noticed, None)

    def disturbed(self, tests: Sequence[str]) -> list[str]:
        """Return those of the tests that were not run to the end without any fault, each with the reason."""
        return [f"{test}: {self._reason(test)}" for test in tests if not self._is_good(test)]

    def _cases(self, test: str) -> list[Mapping[str, Any]]:
        return [one for one in self.outcomes if one["test"] == test or one["test"].startswith(f"{test}[")]

    def _is_good(self, test: str) -> bool:
        cases = self._cases(test)
        return any(case["phase"] == "call" for case in cases) and all(case["passed"] for case in cases)

    def _reason(self, test: str) -> str:
        cases = self._cases(test)
        failed = next((case for case in cases if not case["passed"]), None)
        if failed:
            return f"{failed['phase']} ended in {failed['error']}"
        return "it passed" if cases else "it was not run to its end"


def _is_noticed(outcome: Mapping[str, Any]) -> bool:
    """Return whether a test itself said that something is wrong.

    A fixture that fails, an error that the product raises, and a time-out do not say so.
    """
    return (
        outcome["phase"] == "call"
        and not outcome["passed"]
        and outcome["is_assertion"]
        and outcome["file"].startswith("tests/")
        and outcome["file"] != WAITING
    )


@contextmanager
def copy_of(source: Path) -> Iterator[Path]:
    """Yield a copy of a tree, to change at will."""
    with tempfile.TemporaryDirectory(prefix="kata-control-") as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(source, tree, ignore=LEFT_OUT)
        yield tree


async def run(tree: Path, tests: Sequence[str], servers: Mapping[str, str]) -> Trial:
    """Run the tests as they are in `tree`, on these servers."""
    outcomes = tree / "outcomes.jsonl"
    plugins = ["-p", "no:cacheprovider", "-p", "pytest_timeout", "-p", "tests.controls.recorder"]
    options = ["-q", "--tb=short", f"--timeout={TEST_SECONDS}", f"--outcomes={outcomes}"]
    # Nothing else is loaded: a process for each trial shall start fast.
    environment = os.environ | servers | {"PYTHONPATH": str(tree), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", *plugins, *options, *tests,
        cwd=tree, env=environment, stdout=PIPE, stderr=STDOUT, start_new_session=True,
    )  # fmt: skip
    seconds = START_SECONDS + TEST_SECONDS * len(tests)
    try:
        async with asyncio.timeout(seconds):
            printed, _ = await process.communicate()
    except TimeoutError:
        printed = f"given up after {seconds} s".encode()
    finally:
        # With whatever its tests have started.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    written = outcomes.read_text(encoding="utf-8").splitlines() if outcomes.exists() else []
    return Trial([json.loads(line) for line in written], printed.decode(errors="replace"))


async def without_guard(control: Control, source: Path, servers: Mapping[str, str]) -> Trial:
    """Take the guard away in a copy of `source` and run the tests that must notice."""
    with copy_of(source) as tree:
        control.remove_guard(tree)
        return await run(tree, control.noticed_by, servers)
