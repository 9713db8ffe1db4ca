"""How migrations, API and projectors are started: as processes, told everything by their environment.

The environment, not the command line, because both URLs carry passwords and any user can list command lines.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from devstack.errors import ConfigurationError
from devstack.layout import CHECKOUT
from devstack.ports import HIGHEST_PORT, HOST, free_ports, is_free

DATABASE = "kata"  # in both servers
# What else can say where a store is. Set by the caller, they lead to his own, which is none of our business.
ELSEWHERE = ("MIGRATION_DATABASE_URL", "MAINTENANCE_DATABASE_URL", "MAINTENANCE_MONGO_URL")
MIGRATE = (sys.executable, "-m", "alembic", "upgrade", "head")


@dataclass(frozen=True)
class Application:
    """One process that serves HTTP. `name` is its log's, too."""

    role: str
    name: str
    command: tuple[str, ...]
    port: int
    environment: Mapping[str, str]


def api(port: int) -> Application:
    """The REST service."""
    command = (sys.executable, "-m", "api.main")
    return Application("api", "api", command, port, {"API_HOST": HOST, "API_PORT": str(port)})


def projector(number: int, port: int) -> Application:
    """The projector with this number, counted from 1."""
    command = (sys.executable, "-m", "projector.cli", "run")
    environment = {"PROJECTOR_HTTP_HOST": HOST, "PROJECTOR_HTTP_PORT": str(port)}
    return Application("projector", f"projector-{number}", command, port, environment)


def connection_environment(postgres_dsn: str, mongo_uri: str) -> dict[str, str]:
    """Where the stores are, in the names that all our programs read; these and no others, also for special commands."""
    stores = {"DATABASE_URL": postgres_dsn, "MONGO_URL": mongo_uri, "MONGO_DATABASE": DATABASE}
    return {**stores, **dict.fromkeys(ELSEWHERE, "")}


def inherited_environment(overruling: Mapping[str, str]) -> dict[str, str]:
    """Ours, overruled.

    A setting X may also come from a file named in X_FILE; those of the overruled ones are dropped.
    """
    overruled = {f"{name}_FILE" for name in overruling}
    ours = {name: value for name, value in os.environ.items() if name not in overruled}
    return {**ours, "PYTHONUNBUFFERED": "1", **overruling}


def choose_applications(api_port: int, projector_port: int, projectors: int) -> list[Application]:
    """The API and its projectors, on the ports asked for; 0 means any free one.

    Raises ConfigurationError when one is taken. Further projectors take the ports after the first one's.
    """
    wanted_projectors = [projector_port + number if projector_port else 0 for number in range(projectors)]
    wanted = [api_port, *wanted_projectors]
    asked_for = [port for port in wanted if port]
    for position, port in enumerate(asked_for):
        option = "--api-port" if api_port and position == 0 else "--projector-port"
        if port > HIGHEST_PORT:
            message = f"Port {port} is needed for the last projector and there is no such port: lower {option}."
            raise ConfigurationError(message)
        if port in asked_for[:position]:
            message = f"Port {port} is asked for both by the API and by a projector: choose another {option}."
            raise ConfigurationError(message)
        if not is_free(port):
            message = (
                f"Port {port} is taken by another program: stop it,"
                f" or choose another port with {option} (0 takes any free one)."
            )
            raise ConfigurationError(message)
    chosen = iter(free_ports(len(wanted)))
    ports = [port or next(chosen) for port in wanted]
    return [api(ports[0]), *(projector(number, port) for number, port in enumerate(ports[1:], start=1))]


def require_checkout() -> None:
    """Raises ConfigurationError where the programs and migrations are not beside this package."""
    if not (CHECKOUT / "alembic.ini").is_file():
        message = f"`kata up` starts what lies in a checkout of this project, and {CHECKOUT} is none."
        raise ConfigurationError(message)
