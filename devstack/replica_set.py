"""Makes a mongod the primary of a one-node replica set, and its user; both again harmless when they are done.

A set is configured by address, and a file beside the data says which port it believes in: none yet means it
has to be initiated. On another port the set would look for itself at its old address (for half a minute, when
somebody mute listens there), so its configuration is rewritten first, on a server that runs alone for that
moment: MongoDB's manual, "Change Hostnames in a Self-Managed Replica Set". Each step takes a fresh client,
because one made before the set was initiated goes on saying that sessions are not supported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from devstack.errors import ServerError
from devstack.ports import HOST
from devstack.waiting import wait_until

NAME = "kata"
ROLES = ["root"]
UNAUTHORIZED = 13  # the localhost exception is over: there is a user already
ALREADY_INITIALIZED = 23
USER_EXISTS = 51003
PRIMARY_SECONDS = 60.0


@dataclass(frozen=True)
class Login:
    """Credentials, and the database that knows them."""

    user: str
    password: str
    source: str = "admin"


def establish(port: int, login: Login | None, configured_port: Path, check: Callable[[], object]) -> None:
    """Return when the node is primary and the user exists.

    `check` is called between polls and may raise. Raises ServerError.
    """
    try:
        _establish(port, login, configured_port, check)
    except PyMongoError as error:
        message = f"mongod does not become a replica set: {error}"
        raise ServerError(message) from error


def _establish(port: int, login: Login | None, configured_port: Path, check: Callable[[], object]) -> None:
    is_new = not configured_port.exists()
    if is_new:
        _tolerating(lambda: _initiate(port), UNAUTHORIZED, ALREADY_INITIALIZED)
    _wait_for_primary(port, check)
    if is_new and login:
        _tolerating(lambda: _create_user(port, login), UNAUTHORIZED, USER_EXISTS)
    configured_port.write_text(f"{port}\n")


def believes_in_another_port(port: int, configured_port: Path) -> bool:
    """Whether the set has to be readdressed before it can run on this port."""
    return configured_port.exists() and configured_port.read_text().strip() != str(port)


def readdress(port: int, key_file: Path | None, configured_port: Path) -> None:
    """Write the port into the set's configuration, on a server that runs without the set.

    Not even its administrator may write there; the members themselves may, who prove with the key that they
    are one.
    """
    member = Login("__system", key_file.read_text().strip(), "local") if key_file else None
    with _client(port, member) as client:
        client.local["system.replset"].update_one({"_id": NAME}, {"$set": {"members.0.host": f"{HOST}:{port}"}})
    configured_port.write_text(f"{port}\n")


def _client(port: int, login: Login | None = None) -> MongoClient[dict[str, Any]]:
    return MongoClient(
        HOST,
        port,
        directConnection=True,
        serverSelectionTimeoutMS=10_000,
        username=login.user if login else None,
        password=login.password if login else None,
        authSource=login.source if login else "admin",
    )


def _initiate(port: int) -> None:
    with _client(port) as client:
        client.admin.command("replSetInitiate", {"_id": NAME, "members": [{"_id": 0, "host": f"{HOST}:{port}"}]})


def _create_user(port: int, login: Login) -> None:
    with _client(port) as client:
        client.admin.command("createUser", login.user, pwd=login.password, roles=ROLES)


def _wait_for_primary(port: int, check: Callable[[], object]) -> None:
    with _client(port) as client:

        def is_primary() -> bool:
            check()
            try:
                return bool(client.admin.command("hello").get("isWritablePrimary"))
            except AutoReconnect:  # an election closes connections
                return False

        failure = f"mongod did not become primary within {PRIMARY_SECONDS:.0f} s."
        wait_until(is_primary, seconds=PRIMARY_SECONDS, failure=failure)


def _tolerating(step: Callable[[], None], *codes: int) -> None:
    try:
        step()
    except OperationFailure as error:
        if error.code not in codes:
            raise
