"""Every procedure of the runbook is run by a test, and every command that the documents name is one."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from devstack.cli import app as kata
from devstack.layout import CHECKOUT
from projector.cli import app as projector
from tests.fixtures.runbook import procedure, procedures

DOCUMENTS: Final = ("README.md", "runbook.md", "CHANGELOG.md", "CONTRIBUTING.md", "ADR-004.md")
PROGRAMS: Final = {"projector": get_command(projector), "kata": get_command(kata)}

Block = tuple[str, int]


def run_by(module: Path) -> Iterator[Block]:
    """Yield the blocks that the tests of a module run: each is named by a call of `procedure`, or all of a section."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == procedure.__name__:
            match node.args:
                case [ast.Constant(value=str(title))]:
                    yield title, 0
                case [ast.Constant(value=str(title)), ast.Constant(value=int(block))]:
                    yield title, block
                case [ast.Constant(value=str(title)), *_]:  # a variable, in a loop over them
                    yield from all_of({title})
                case _:  # a function that is told the title: whichever the module names
                    yield from all_of({each.value for each in ast.walk(tree) if isinstance(each, ast.Constant)})


def all_of(titles: set[object]) -> Iterator[Block]:
    """Yield every block of the sections with these titles."""
    for title, blocks in procedures().items():
        yield from ((title, block) for block in range(len(blocks)) if title in titles)


def test_every_procedure_is_run_by_a_test() -> None:
    written = {(title, block) for title, blocks in procedures().items() for block in range(len(blocks))}
    run = {block for module in (CHECKOUT / "tests").rglob("test_*.py") for block in run_by(module)}
    assert written - run == set(), "procedures that no test runs: see tests/fixtures/runbook.py"
    assert run - written == set(), "procedures that are no longer there"
    assert len(written) > 10


def commands_in(document: str) -> list[str]:
    """Return the commands of ours that a document names, in blocks or within its sentences."""
    text = (CHECKOUT / document).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^ *```(?:bash|console)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE))
    in_blocks = re.findall(r"^ *(?:\$ )?(?:\.venv/bin/)?((?:projector|kata) [^#|&\n]+)", blocks, re.MULTILINE)
    sentences = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    in_sentences = re.findall(r"`((?:projector|kata) [^`]+)`", sentences)
    return [" ".join(command.split()) for command in (*in_blocks, *in_sentences)]


def what_is_wrong(command: str) -> str:
    """Return what in a command does not exist, "" when all of it does. `a|b` and [...] are ways of writing it down."""
    name, *words = shlex.split(re.sub(r"[][]|\\", " ", command))
    chosen = [PROGRAMS[name]]
    for word in words:
        if word.startswith("-"):
            options = {option for each in chosen for parameter in each.params for option in parameter.opts}
            if word.partition("=")[0] not in options | {"--help"}:
                return word
        elif len(chosen) == 1 and isinstance(chosen[0], TyperGroup):
            commands = chosen[0].commands
            if not commands.keys() >= set(word.split("|")):
                return word
            chosen = [commands[each] for each in word.split("|")]
    return ""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_a_document_names_exists_with_its_options(document: str) -> None:
    wrong = {command: what for command in commands_in(document) if (what := what_is_wrong(command))}
    assert wrong == {}


def test_a_command_that_does_not_exist_would_be_found() -> None:
    assert [what_is_wrong(f"projector {words}") for words in ("replai", "replay --fast", "dead-letters bury")] == [
        "replai",
        "--fast",
        "bury",
    ]
    assert sum(len(commands_in(document)) for document in DOCUMENTS) > 60
