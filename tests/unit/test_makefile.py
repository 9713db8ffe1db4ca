"""make says in one sentence what a machine lacks, and make alone lists the targets."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make setup` reads, with no virtual environment yet."""
    for name in ("Makefile", "pyproject.toml", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=60)


def python_that(checkout: Path, name: str, script: str) -> str:
    """Return a stand-in for an interpreter that this machine does not have."""
    path = checkout / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_without_python3_venv_the_package_is_named(checkout: Path) -> None:
    python = python_that(checkout, "python-without-venv", 'case "$2" in *ensurepip*) exit 1;; esac')

    done = make(checkout, "setup", f"PYTHON={python}")

    assert done.returncode == 2
    assert "python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_an_older_python_is_refused(checkout: Path) -> None:
    python = python_that(checkout, "python-3.9", 'if [ "$1" = -V ]; then echo Python 3.9.2; else exit 1; fi')

    done = make(checkout, "setup", f"PYTHON={python}")

    assert done.returncode == 2
    assert "is Python 3.9.2, 3.11 or newer is needed" in done.stderr


def test_without_any_python_it_is_said(checkout: Path) -> None:
    done = make(checkout, "setup", "PYTHON=no-such-python")

    assert done.returncode == 2
    assert "install Python 3.11 or newer" in done.stderr


def test_make_alone_lists_the_targets() -> None:
    listed = make(ROOT).stdout

    assert {line.split()[0] for line in listed.splitlines()} >= {"setup", "run", "test", "check", "evidence", "clean"}
