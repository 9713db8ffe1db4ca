"""Event payloads: whatever JSON a message holds, it is projected or fails alone, and its neighbours settle."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from projector.projections.gate import UnstorableDocumentError, write_of
from projector.projections.registry import PROJECTIONS, project
from shared.events import registry
from shared.events.registry import PAYLOADS, UnreadableEventError, read_event
from shared.events.schema import PayloadSchema
from shared.events.user import UserPayload
from shared.outbox.message import OutboxMessage
from tests.fuzz.conftest import World
from tests.fuzz.examples import batched, computed, patient
from tests.fuzz.json_text import ANY_JSON, changed

pytestmark = patient

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
TIMES: Final = {"created_at": NOW.isoformat(), "updated_at": NOW.isoformat()}
OWNER: Final = {"id": 1, "name": "Ada", "email": "ada@example.org", "version": 1}
USER: Final[dict[str, Any]] = {"schema_version": 1, "id": 7, "name": "Ada", "email": "ada@example.org", **TIMES}
ITEM: Final[dict[str, Any]] = {
    "schema_version": 1, "id": 7, "name": "Brie", "description": None, "sell_in": 1, "quality": 2, "owner": OWNER,
    "tags": ["a"], **TIMES,
}  # fmt: skip
DELETED: Final = {"schema_version": 1, "deleted_at": NOW.isoformat()}
PAYLOAD: Final = changed(USER) | changed(ITEM) | changed(DELETED) | ANY_JSON
EVENT_TYPE: Final = st.sampled_from(sorted(PAYLOADS))


def message(event_type: str, text: str, version: int = 1) -> OutboxMessage:
    """Return a message as it comes from the outbox, with this payload."""
    aggregate_type = event_type.partition(".")[0]
    payload = text.encode("utf-8", "surrogatepass")
    return OutboxMessage(1, aggregate_type, 7, version, event_type, payload, None, NOW, awaited=False)


@computed
@given(event_type=EVENT_TYPE, text=PAYLOAD)
@example(event_type="user.deleted", text='{"schema_version": 1, "deleted_at": "0001-01-01T00:00:00+14:00"}')
def test_a_payload_becomes_a_document_or_says_why_it_cannot(event_type: str, text: str) -> None:
    with suppress(UnreadableEventError, UnstorableDocumentError):
        document = project(read_event(message(event_type, text)))
        write = write_of(document, PROJECTIONS[event_type.partition(".")[0]].owner_field)
        assert write.aggregate_id == 7


def older(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take from a payload of version 0 what may not be there, and may be anything."""
    return {**payload, "name": payload["name"].strip() + payload["names"]["first"], "tags": sorted(payload["tags"])}


OLD: Final = changed({"name": "Ada", "names": {"first": "A"}, "id": 7, "email": "a", "tags": ["a"], **TIMES})
VERSIONS: Final = st.just("0") | st.sampled_from(
    ["-1", "1", "2", "0.0", "false", "9" * 400, "9" * 5000, "1e400", "NaN"]
)


@computed
@given(text=OLD, version=VERSIONS)
def test_what_an_upcaster_trips_over_fails_as_any_other_payload_does(text: str, version: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "PAYLOADS", {"user.created": PayloadSchema(UserPayload, {0: older})})
        with suppress(UnreadableEventError):
            read_event(message("user.created", f'{{"schema_version":{version},{text[1:]}'.replace(",}", "}")))


@batched
@given(payloads=st.lists(st.tuples(EVENT_TYPE, PAYLOAD, st.sampled_from([1, 2, 2**31 - 1])), max_size=8))
def test_the_relay_gets_over_any_payload_and_neighbours_settle(
    world: World, payloads: list[tuple[str, str, int]]
) -> None:
    world.outbox.user(1)
    appended = 0
    for number, (event_type, text, version) in enumerate(payloads, 100):
        aggregate_type, _, happened = event_type.partition(".")
        with suppress(psycopg.DataError, psycopg.errors.StatementTooComplex):  # what the outbox itself cannot hold
            world.postgres.execute(
                "INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload)"
                " VALUES (%s, %s, %s, %s, convert_from(%s, 'UTF8')::jsonb)",
                (
                    aggregate_type,
                    number,
                    version,
                    f"{aggregate_type}.{happened}",
                    text.encode("utf-8", "surrogatepass"),
                ),
            )
            appended += 1
    world.outbox.item(2)

    counts = world.relay.run_once()

    assert counts.claimed == appended + 2
    assert counts.settled + counts.failed == counts.claimed
    assert world.outbox.ids() == []
    failures = world.outbox.failures()
    assert len(failures) == counts.failed
    assert all(error for _, _, error in failures)
    for name in ("users_read", "items_read"):
        world.read_models[name].delete_many({})
    world.postgres.execute("TRUNCATE outbox_failures")
