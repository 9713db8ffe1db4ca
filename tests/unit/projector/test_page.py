"""The page's files: they are part of what is installed, and name no other host."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from devstack.layout import CHECKOUT
from projector.console.routes import PAGE

# A namespace is a name; nobody fetches it.
NAMESPACES = {"http://www.w3.org/2000/svg"}


def test_the_page_is_in_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    installed = set(zipfile.ZipFile(wheel).namelist())
    assert installed >= {str(path.relative_to(CHECKOUT)) for path in PAGE.iterdir()}


def test_the_page_names_no_other_host() -> None:
    for path in PAGE.iterdir():
        hosts = set(re.findall(r"\b(?:https?:)?//[\w.-]+\.[\w./-]+", path.read_text(encoding="utf-8")))
        assert hosts <= NAMESPACES, path.name


def test_nothing_becomes_markup() -> None:
    for path in PAGE.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", path.read_text()), (
            path.name
        )
