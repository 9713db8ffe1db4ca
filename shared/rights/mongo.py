"""Makes the users of MongoDB and the roles that say what they may do, or brings those that are there up to date.

To be done by an administrator. Users are in `admin`, as everywhere; roles in the database of the read models, where
they can say nothing of any other.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymongo import MongoClient

from shared.mongo import Document
from shared.rights.collections import ACTIONS, privileges_of
from shared.rights.postgres import MissingPasswordError
from shared.rights.role import Role

USERS: Final = "admin"


def make_users(
    client: MongoClient[Document], database: str, prefix: str, passwords: Mapping[Role, str]
) -> Iterator[str]:
    """Make roles and users; yield what was done, a line each.

    A user that is there keeps its password unless one is given. Raises MissingPasswordError.
    """
    for role in ACTIONS:
        name = role.name_in(prefix)
        yield from _make_role(client, database, role, name)
        yield from _make_user(client, {"role": name, "db": database}, role, name, passwords.get(role))


def _make_role(client: MongoClient[Document], database: str, role: Role, name: str) -> Iterator[str]:
    found = client[database].command("rolesInfo", name, showPrivileges=True)["roles"]
    wanted = privileges_of(role, database)
    if not found:
        client[database].command("createRole", name, privileges=wanted, roles=[])
        yield f"{name}: role made in {database}"
    elif _comparable(found[0]["privileges"]) != _comparable(wanted) or found[0]["roles"]:
        client[database].command("updateRole", name, privileges=wanted, roles=[])
        yield f"{name}: role changed"


def _make_user(
    client: MongoClient[Document], granted: Mapping[str, str], role: Role, name: str, password: str | None
) -> Iterator[str]:
    found = client[USERS].command("usersInfo", name)["users"]
    if not found:
        if not password:
            raise MissingPasswordError(role, "MongoDB")
        client[USERS].command("createUser", name, pwd=password, roles=[granted])
        yield f"{name}: user made"
        return
    if found[0]["roles"] != [granted]:
        client[USERS].command("updateUser", name, roles=[granted])
        yield f"{name}: user has its role, and no other"
    if password:
        client[USERS].command("updateUser", name, pwd=password)
        yield f"{name}: password set"


def _comparable(privileges: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    return {
        (privilege["resource"]["db"], privilege["resource"]["collection"], action)
        for privilege in privileges
        for action in privilege["actions"]
    }
