"""`kata exec`: a command against the running instance, told by its environment where the databases are.

The command replaces this process, so its exit code and its signals are its own.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from devstack import mongod, postgres
from devstack.applications import DATABASE, connection_environment, inherited_environment
from devstack.errors import ConfigurationError
from devstack.layout import CHECKOUT, Layout
from devstack.passwords import kept_password
from devstack.status import find_out


def execute(layout: Layout, command: Sequence[str]) -> NoReturn:
    """Become `command`, in the checkout. Raises ConfigurationError when nothing runs or there is no such command."""
    environment = inherited_environment(environment_of(layout))
    # `projector`, `alembic` and `python` are those of this virtual environment, activated or not.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        raise ConfigurationError(f"There is no command {command[0]}.")
    os.chdir(CHECKOUT)
    os.execve(program, list(command), environment)  # noqa: S606 - running the given command is what it is for


def environment_of(layout: Layout) -> dict[str, str]:
    """Where the databases of the running instance are. Raises ConfigurationError when none runs."""
    ports = {process.role: process.port for process in find_out(layout).processes}
    postgres_port, mongo_port = ports.get("postgres"), ports.get("mongo")
    if postgres_port is None or mongo_port is None:
        raise ConfigurationError(f"Nothing is running on {layout.root}: start it with `kata up`.")
    return connection_environment(
        postgres.dsn(postgres_port, kept_password(layout.postgres / "password"), DATABASE),
        mongod.uri(mongo_port, kept_password(layout.mongod / "password")),
    )
