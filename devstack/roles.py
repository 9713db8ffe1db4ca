"""The roles under which an instance's processes work: none of them as the servers' administrator.

api/scripts/roles.py makes them, at every start, so that they have what the code of today needs. The passwords are kept
beside the data, as the administrators' are.
"""

import sys
from collections.abc import Mapping

from devstack import mongod, postgres
from devstack.applications import DATABASE, connection_environment
from devstack.layout import Layout
from devstack.passwords import kept_password

MAKE_ROLES = (sys.executable, "-m", "api.scripts.roles")
PREFIX = "kata"
NAMES = ("migration", "api", "projector", "maintenance")


def passwords(layout: Layout) -> dict[str, str]:
    """The settings of api/scripts/roles.py; the first call makes the passwords."""
    layout.roles.mkdir(mode=0o700, exist_ok=True)
    kept = {f"{name.upper()}_PASSWORD": kept_password(layout.roles / name) for name in NAMES}
    return {"ROLES_PREFIX": PREFIX, **kept}


def connections_as(layout: Layout, name: str, postgres_port: int, mongo_port: int) -> Mapping[str, str]:
    """Where the stores are for a process that works under this role."""
    user, password = f"{PREFIX}_{name}", kept_password(layout.roles / name)
    return connection_environment(
        postgres.dsn(postgres_port, password, DATABASE, user=user), mongod.uri(mongo_port, password, user=user)
    )
