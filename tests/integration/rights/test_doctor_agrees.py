"""`projector doctor` finds whatever right is taken away or added, and its remedy mends it."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from pymongo import MongoClient

from projector.doctor import mongo, postgres
from projector.doctor.finding import Finding, Severity
from projector.settings import ProjectorSettings
from shared.mongo import Document
from shared.rights.collections import ACTIONS, privileges_of
from shared.rights.grants import GRANTED, relations_of, statements
from shared.rights.role import Role
from shared.rights.tables import in_words, rights_of
from tests.fixtures.roles import Guarded


@pytest.fixture
def settings(guarded: Guarded) -> ProjectorSettings:
    values = {**guarded.environment(Role.PROJECTOR), **guarded.maintenance}
    return ProjectorSettings(**{name.lower(): value for name, value in values.items()})


@pytest.fixture
def owner(guarded: Guarded) -> Iterator[psycopg.Connection]:
    with psycopg.connect(guarded.postgres_url(Role.MIGRATION), autocommit=True) as connection:
        yield connection


@pytest.fixture
def administrator(guarded: Guarded) -> Iterator[MongoClient[Document]]:
    with MongoClient[Document](guarded.mongo_url) as client:
        yield client


def only(found: Iterator[Finding]) -> Finding:
    (finding,) = found
    return finding


@pytest.mark.parametrize("role", GRANTED)
def test_every_right_that_a_role_lacks_is_found(
    guarded: Guarded, settings: ProjectorSettings, owner: psycopg.Connection, role: Role
) -> None:
    name = role.name_in(guarded.prefix)
    rights = sorted(rights_of(role, relations_of(owner)))
    for right in rights:
        (revoke,), (grant,) = (list(statements(verb, [right], name)) for verb in ("REVOKE", "GRANT"))
        owner.execute(revoke)
        found = only(postgres.grant_rights(settings))
        assert found.cause.endswith(f": {in_words([right])}"), right
        assert found.cause.startswith(f"the role {name} may not do what ")
        assert found.severity is Severity.ERROR
        owner.execute(grant)
    assert list(postgres.grant_rights(settings)) == []


def test_a_right_too_much_is_a_warning_and_the_script_takes_it(
    guarded: Guarded, settings: ProjectorSettings, owner: psycopg.Connection
) -> None:
    name = sql.Identifier(Role.API.name_in(guarded.prefix))
    owner.execute(sql.SQL("GRANT DELETE, UPDATE (payload) ON outbox TO {}").format(name))
    found = only(postgres.grant_rights(settings))
    assert found.severity is Severity.WARNING
    assert found.cause.endswith("may do more than the API must: DELETE on outbox, UPDATE (payload) on outbox")
    assert found.remedy == "as an administrator: `python api/scripts/roles.py`"
    assert guarded.make_roles("postgres").exit_code == 0
    assert list(postgres.grant_rights(settings)) == []


@pytest.mark.parametrize("role", [Role.PROJECTOR, Role.MAINTENANCE])
def test_every_action_that_a_user_lacks_is_found(
    guarded: Guarded, settings: ProjectorSettings, administrator: MongoClient[Document], role: Role
) -> None:
    name, database = role.name_in(guarded.prefix), administrator[guarded.mongo_database]
    privileges = privileges_of(role, guarded.mongo_database)
    for collection, actions in ACTIONS[role].items():
        for action in actions:
            fewer = [
                {**each, "actions": [a for a in each["actions"] if a != action]}
                if each["resource"]["collection"] == collection
                else each
                for each in privileges
            ]
            database.command("updateRole", name, privileges=[each for each in fewer if each["actions"]])
            found = only(mongo.grant_rights(settings))
            assert found.details == {"user": name, "missing": [f"{action} {collection}".rstrip()]}
    assert guarded.make_roles("mongo").exit_code == 0
    assert list(mongo.grant_rights(settings)) == []
