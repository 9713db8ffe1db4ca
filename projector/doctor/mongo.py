"""MongoDB: is it there, has it a primary and a majority, does it take us?"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from pymongo import MongoClient, ReadPreference
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from projector.doctor.connection import accounts, mongo_client
from projector.doctor.finding import Finding, Severity
from projector.settings import ProjectorSettings
from projector.subscriber import describe
from shared.mongo import META, REFUSALS, Document
from shared.rights.collections import missing_actions

DISTRUST: Final = re.compile(r"certificate|SSL|TLS", re.IGNORECASE)

MAKE_USERS: Final = "as an administrator: `python api/scripts/roles.py mongo` makes users that may"

# A majority that is further behind than this does not follow.
BEHIND_SECONDS: Final = 10.0

DOWN: Final = "down"
STATES: Final[Mapping[str, str]] = {
    "Unknown": DOWN,
    "RSPrimary": "primary",
    "RSSecondary": "secondary",
    "RSArbiter": "arbiter",
    "RSGhost": "in no set",
    "RSOther": "starting or recovering",
}
SETTLE_SECONDS: Final = 0.05


def reach(settings: ProjectorSettings) -> Iterator[Finding]:
    """Read from the primary as our user."""
    for variable, _, account in accounts(settings, "MONGO_URL"):
        found = _reach(account)
        if found:
            yield replace(found, remedy=found.remedy.replace("MONGO_URL", variable))
            return


def _reach(settings: ProjectorSettings) -> Finding | None:
    try:
        with mongo_client(settings) as client:
            try:
                # Of the primary, also where MONGO_URL prefers to read from secondaries.
                database = client.get_database(settings.mongo_database, read_preference=ReadPreference.PRIMARY)
                database[META].find_one({}, {"_id": 1})
            except PyMongoError as error:
                return _unreached(client, error)
    except ConfigurationError as error:  # the name of a mongodb+srv:// is not known, or a file of certificates
        return _unreachable(error)
    return None


def grant_rights(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare what our users may do with the database to what they must."""
    for variable, role, account in accounts(settings, "MONGO_URL"):
        with mongo_client(account) as client:
            status = client.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
        if not status["authenticatedUsers"]:
            continue  # it just answered us without asking who we are
        missing = missing_actions(role, settings.mongo_database, status["authenticatedUserPrivileges"])
        if missing:
            user = status["authenticatedUsers"][0]["user"]
            yield Finding(
                f"the MongoDB user {user} may not {', '.join(missing)} in the database {settings.mongo_database}",
                f"{MAKE_USERS}, and {variable} names the one for it",
                details={"user": user, "missing": missing},
            )


def be_whole(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look for members that are down, and for a majority that does not follow."""
    with mongo_client(settings) as client:
        hello = client.admin.command("hello")
        members = _members_once_known(client, settings.connect_timeout_seconds)
    down = [address for address, state in members.items() if state == DOWN]
    if down:
        yield Finding(
            f"of MongoDB's {len(members)} members {_listed(down)} {'is' if len(down) == 1 else 'are'} down",
            "start it again, its log says why it ended; while a majority of the set is up, everything goes on",
            Severity.WARNING,
            {"members": members},
        )
    last = hello["lastWrite"]
    behind = (last["lastWriteDate"] - last["majorityWriteDate"]).total_seconds()
    if behind > BEHIND_SECONDS:
        yield Finding(
            f"MongoDB's majority is {behind:.0f} s behind its primary: nothing is acknowledged, so nothing is settled",
            "start the members that are down, and see what the others wait for: "
            "`rs.printSecondaryReplicationInfo()` in an administrator's mongosh",
            details={"behind_seconds": behind, "members": members},
        )


def _unreached(client: MongoClient[Document], error: PyMongoError) -> Finding:
    if isinstance(error, OperationFailure) and error.code in REFUSALS:
        return Finding(
            f"MongoDB refuses us: {describe(error)}",
            f"correct user, password and authSource in MONGO_URL; if they are right, it lacks rights: {MAKE_USERS}",
        )
    if DISTRUST.search(str(error)):
        return Finding(
            f"MongoDB cannot be trusted, or does not trust us: {_without_topology(describe(error))}",
            "tlsCAFile in MONGO_URL must name the certificate of whoever signed MongoDB's, which must be for the host "
            "in MONGO_URL; if it asks for ours, name it with tlsCertificateKeyFile",
        )
    members = _members(client)
    if not members or set(members.values()) == {DOWN}:
        return _unreachable(error)
    return Finding(
        f"MongoDB has no primary: {', '.join(f'{address} is {state}' for address, state in members.items())}",
        "start the members that are down, a majority of the set elects a primary by itself; a set that was never "
        'made: `mongosh "$MONGO_URL" --eval "rs.initiate()"`',
        details={"members": members},
    )


def _unreachable(error: PyMongoError) -> Finding:
    return Finding(
        f"MongoDB cannot be reached: {_without_topology(describe(error))}",
        'start it, or correct hosts, port and replicaSet in MONGO_URL; try `mongosh "$MONGO_URL" --eval "db.hello()"`',
    )


def _without_topology(text: str) -> str:
    # The driver appends its time-outs to each server's error, and in the end all that it knows.
    return re.sub(r" \(configured timeouts: [^)]*\)", "", text.partition(", Timeout: ")[0])


def _members_once_known(client: MongoClient[Document], seconds: float) -> dict[str, str]:
    # The client asks every member on a thread of its own.
    deadline = time.monotonic() + seconds
    while DOWN in (members := _members(client)).values() and time.monotonic() < deadline:
        time.sleep(SETTLE_SECONDS)
    return members


def _members(client: MongoClient[Document]) -> dict[str, str]:
    servers = client.topology_description.server_descriptions()
    return {
        f"{host}:{port}": STATES.get(server.server_type_name, server.server_type_name)
        for (host, port), server in sorted(servers.items())
    }


def _listed(names: list[str]) -> str:
    return " and ".join(names)
