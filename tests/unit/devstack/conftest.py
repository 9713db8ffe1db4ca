"""Directories for servers, and a stand-in checkout: devstack beside programs that pretend to be API and projector.

With the stand-in, the supervisor is tested with real servers and real processes, but without waiting for the whole
product; what the real programs do is tested in tests/e2e.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.layout import CHECKOUT
from devstack.scratch import scratch_directory
from tests.unit.devstack.stand_in import APPLICATION, MIGRATIONS, ROLES, StandIn


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that PostgreSQL can be run in, whoever runs the tests."""
    with scratch_directory() as path:
        yield path


@pytest.fixture
def stand_in(directory: Path) -> Iterator[StandIn]:
    """A checkout whose API and projectors do next to nothing; whatever runs in it at the end is stopped."""
    checkout = directory / "checkout"
    shutil.copytree(CHECKOUT / "devstack", checkout / "devstack", ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "alembic.ini").touch()
    for package, module, source in (
        ("alembic", "__main__", MIGRATIONS),
        ("api", "main", APPLICATION),
        ("api/scripts", "roles", ROLES),
        ("projector", "cli", APPLICATION),
    ):
        (checkout / package).mkdir(exist_ok=True)
        (checkout / package / "__init__.py").touch()
        (checkout / package / f"{module}.py").write_text(source)
    kata = StandIn(checkout)
    try:
        yield kata
    finally:
        kata.end()
