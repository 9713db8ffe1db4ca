"""Payloads of older schema versions: upcasters bring them to the present one, wherever they were kept meanwhile."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

import psycopg
import pytest
from pymongo.database import Database
from typing_extensions import TypedDict

from projector import dead_letters
from projector.dead_letters import Selection
from projector.relay import Relay
from shared.events import registry
from shared.events.registry import PAYLOADS
from shared.events.schema import PayloadSchema
from shared.events.user import UserPayload
from shared.mongo import Document
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import NOW, Outbox, drain


class Payload3(TypedDict):
    """A user's payload two versions from now: the name is trimmed, and the language is new."""

    schema_version: Literal[3]
    id: int
    name: str
    language: str | None
    email: str
    created_at: datetime
    updated_at: datetime


def to_2(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Version 2 called the name `full_name`."""
    return {name: value for name, value in payload.items() if name != "name"} | {"full_name": payload["name"]}


def to_3(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Version 3 calls it `name` again, and trims it; of the language older versions say nothing."""
    kept = {name: value for name, value in payload.items() if name != "full_name"}
    return kept | {"name": payload["full_name"].strip(), "language": None}


VERSION_3: Final = PayloadSchema(Payload3, {1: to_2, 2: to_3})
USER: Final = {"id": 1, "email": "ada@example.org", "created_at": NOW.isoformat(), "updated_at": NOW.isoformat()}


@pytest.fixture
def version_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is deployed now reads users at version 3."""
    users = dict.fromkeys(("user.created", "user.updated", "user.repaired"), VERSION_3)
    monkeypatch.setattr(registry, "PAYLOADS", {**PAYLOADS, **users})


@pytest.mark.parametrize(
    "payload",
    [
        {"schema_version": 1, **USER, "name": " Ada "},
        {"schema_version": 2, **USER, "full_name": " Ada "},
        {"schema_version": 3, **USER, "name": "Ada", "language": "en"},
    ],
)
def test_the_relay_projects_old_payloads_as_it_does_new_ones(
    relay: Relay, outbox: Outbox, read_models: Database[Document], version_3: None, payload: dict[str, Any]
) -> None:
    outbox.append("user", 1, 1, "created", payload)
    assert drain(relay).settled == 1
    (document,) = read_models["users_read"].find()
    assert document == {
        "_id": 1, "name": "Ada", "email": "ada@example.org", "version": 1, "created_at": NOW, "updated_at": NOW
    }  # fmt: skip


def test_what_the_api_of_today_writes_is_what_the_next_versions_upcast(
    unprojected: ApiClient, relay: Relay, read_models: Database[Document], version_3: None
) -> None:
    user = unprojected.new_user(name=" Ada ")
    unprojected.put(f"/users/{user['id']}", json={"name": " Grace "})
    assert drain(relay).failed == 0
    assert [document["name"] for document in read_models["users_read"].find()] == ["Grace"]


def test_an_old_payload_that_is_not_what_it_says_fails_alone(
    relay: Relay, outbox: Outbox, read_models: Database[Document], version_3: None
) -> None:
    outbox.append("user", 7, 1, "created", {"schema_version": 1, **USER})
    outbox.append("user", 8, 1, "created", {"schema_version": 2, **USER, "full_name": 5})
    outbox.append("user", 9, 1, "created", {"schema_version": 1, **USER, "email": None, "name": "Ada"})
    outbox.user(1)
    counts = relay.run_once()
    assert (counts.settled, counts.failed) == (1, 3)
    errors = [error for _, _, error in outbox.failures()]
    assert errors[0] == "payload of user.created: not of schema version 1, as it says: KeyError: 'name'"
    assert errors[1].startswith("payload of user.created: not of schema version 2, as it says: AttributeError: ")
    assert errors[2] == "payload of user.created: email: Input should be a valid string"
    assert [document["_id"] for document in read_models["users_read"].find()] == [1]


def test_a_dead_letter_of_a_newer_version_is_settled_by_the_version_that_knows_it(
    make_relay: Callable[[], Relay],
    outbox: Outbox,
    postgres: psycopg.Connection,
    read_models: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outbox.append("user", 1, 1, "created", {"schema_version": 3, **USER, "name": "Ada", "language": "en"})
    drain(make_relay())
    ((_, state, error),) = outbox.failures()
    assert state == "dead"
    assert error.endswith("is newer than 1, the newest one known here: deploy the version that knows it")

    monkeypatch.setattr(registry, "PAYLOADS", {**PAYLOADS, "user.created": VERSION_3})  # the deploy
    dead_letters.retry(postgres, Selection.of_all())
    assert drain(make_relay()).settled == 1
    assert [document["name"] for document in read_models["users_read"].find()] == ["Ada"]


def test_a_repeated_request_is_answered_from_what_an_older_version_stored(
    unprojected: ApiClient, postgres: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = unprojected.new_user(**{"Idempotency-Key": "k"})
    monkeypatch.setattr(registry, "PAYLOADS", {**PAYLOADS, "user.created": VERSION_3})
    assert unprojected.new_user(**{"Idempotency-Key": "k"}) == first

    # The other way round, in the middle of a deploy: done by the newer version, repeated at this one.
    postgres.execute("""UPDATE idempotency_keys SET payload = payload || '{"schema_version": 4}'""")
    refused = unprojected.post(
        "/users", json={"name": "Ada", "email": "ada@example.org"}, headers={"Idempotency-Key": "k"}
    )
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:kata:problem:newer-version")
    assert refused.headers["Retry-After"] == "1"


@pytest.mark.parametrize("versions", [(2,), (1, 3), (0, 1), (4,)])
def test_upcasters_that_do_not_lead_to_the_present_version_are_refused(versions: tuple[int, ...]) -> None:
    upcasters = dict.fromkeys(versions, to_2)
    with pytest.raises(ValueError, match="upcasters lead from one version to the next"):
        PayloadSchema(UserPayload if versions == (2,) else Payload3, upcasters)


def test_every_event_type_can_be_read_from_where_its_upcasters_begin() -> None:
    assert {schema.version for schema in PAYLOADS.values()} == {1}
