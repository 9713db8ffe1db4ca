"""Every guard can be taken away, and what then fails is named; a few of them are, each time the suite runs."""

import ast
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.controls.catalogue import controls
from tests.controls.control import Change, Control, RottenControlError
from tests.controls.report import table
from tests.controls.trial import Trial, without_guard
from tests.fixtures.databases import ROOT

TEST = "tests/test_x.py::test_y"
CONTROL = Control("a guard", "1: it", "all is lost", [Change("a.py", "guard()", "pass")], [TEST])

CONTROLS = {control.guard: control for control in controls()}

# The rest takes minutes: `make controls`.
SHORT_FORM = ["version gate", "settle in the same transaction", "lock of the swap", "arming after commit"]


def functions_of(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS)
def test_a_guard_is_still_where_its_control_takes_it_away(control: Control) -> None:
    for path, text in control.texts_without(ROOT).items():
        ast.parse(text, path)


def test_every_test_that_must_notice_is_there() -> None:
    named = {tuple(test.split("::")) for control in CONTROLS.values() for test in control.noticed_by}
    defined = {file: functions_of(ROOT / file) for file, _ in named}

    assert [f"{file}::{name}" for file, name in sorted(named) if name not in defined[file]] == []
    assert all(control.noticed_by and control.changes for control in CONTROLS.values())


def test_names_of_guards_are_unique() -> None:
    assert len(CONTROLS) == len(controls())


@pytest.mark.parametrize("text", ["nothing of it\n", "guard()\nguard()\n"])
def test_a_text_that_is_not_there_once_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.py").write_text(text)

    with pytest.raises(RottenControlError, match=r"a guard: a\.py"):
        CONTROL.remove_guard(tmp_path)
    assert (tmp_path / "a.py").read_text() == text


# What counts as noticing

FAILED = {
    "test": TEST, "phase": "call", "passed": False, "is_assertion": True, "file": "tests/test_x.py",
    "error": "AssertionError: assert [] == [1]", "statement": "assert found() == [1]",
}  # fmt: skip
PASSED = {"test": TEST, "phase": "call", "passed": True}


def test_an_assertion_of_the_test_is_noticing() -> None:
    assert Trial([FAILED], "").missed(CONTROL) == []
    assert Trial([PASSED | {"test": f"{TEST}[a]"}, FAILED | {"test": f"{TEST}[b]"}], "").missed(CONTROL) == []


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ([PASSED], "it passed"),
        ([], "it was not run to its end"),
        ([FAILED | {"test": f"{TEST}_too"}], "it was not run to its end"),
        ([FAILED | {"phase": "setup"}], "setup ended in AssertionError"),
        ([FAILED | {"is_assertion": False, "error": "KeyError: 'x'"}], "call ended in KeyError"),
        (
            [FAILED | {"file": "tests/fixtures/waiting.py", "error": "AssertionError: not within 20 s"}],
            "not within 20 s",
        ),
        ([FAILED | {"file": "projector/shadow.py"}], "call ended in AssertionError"),
    ],
)
def test_nothing_else_is_noticing(outcomes: list[Mapping[str, Any]], reason: str) -> None:
    (missed,) = Trial(outcomes, "").missed(CONTROL)
    assert missed.startswith(TEST)
    assert reason in missed


def test_the_table_says_what_was_taken_away_who_noticed_and_how() -> None:
    row = table({CONTROL: Trial([FAILED], "")}, 3).splitlines()[-1]

    assert row.strip("| ").split(" | ") == [
        "a guard ([a.py](a.py))", "1: it", "all is lost", "[y](tests/test_x.py)",
        "`assert found() == [1]`<br>`assert [] == [1]`",
    ]  # fmt: skip


# The short form


@pytest.fixture(scope="module")
def trials(servers: tuple[str, str], template: str) -> Mapping[str, Trial]:
    """What came out when the guards of the short form were taken away."""
    postgres, mongo = servers
    environment = {"TEST_DATABASE_URL": postgres, "TEST_MONGO_URL": mongo, "TEST_TEMPLATE": template}

    return {guard: asyncio.run(without_guard(CONTROLS[guard], ROOT, environment)) for guard in SHORT_FORM}


@pytest.mark.parametrize("guard", SHORT_FORM)
def test_without_its_guard_the_suite_is_red(trials: Mapping[str, Trial], guard: str) -> None:
    assert trials[guard].missed(CONTROLS[guard]) == [], trials[guard].output
