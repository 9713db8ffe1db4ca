"""Invariant 8: poison is isolated. One bad message becomes a dead letter at once and delays no neighbour."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

import psycopg
import pytest
from pymongo.database import Database

from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.relay import Relay
from projector.settings import ProjectorSettings
from projector.suspects import LIVES, Suspects
from shared.mongo import Document
from shared.postgres import DEAD_CHANNEL, SETTLED_CHANNEL
from tests.fixtures.relays import Outbox, Watched, drain

SIXTEEN_MEBIBYTES = 16 * 1024 * 1024

Append = Callable[[Outbox], int]

POISON: dict[str, tuple[Append, str]] = {
    "an unknown event type": (
        lambda outbox: outbox.append("item", 7, 1, "exploded", {"schema_version": 1}),
        "unknown event type 'item.exploded'",
    ),
    "an unknown aggregate type": (
        lambda outbox: outbox.append("order", 7, 1, "created", {"schema_version": 1}),
        "unknown aggregate type 'order'",
    ),
    "a payload of another shape": (
        lambda outbox: outbox.append("item", 7, 1, "created", {"schema_version": 1, "id": 7}),
        "payload of item.created: name: Field required",
    ),
    "a schema version of the future": (
        lambda outbox: outbox.append("user", 7, 1, "created", {"schema_version": 2}),
        "payload of user.created: schema version 2 is newer than 1, the newest one known here: deploy the version that",
    ),
    "a schema version that nobody reads any more": (
        lambda outbox: outbox.append("user", 7, 1, "created", {"schema_version": 0}),
        "payload of user.created: schema version 0 is not read any more",
    ),
    "a tombstone without its time": (
        lambda outbox: outbox.append("user", 7, 2, "deleted", {"schema_version": 1}),
        "payload of user.deleted: deleted_at: Field required",
    ),
    "a number that BSON cannot hold": (
        lambda outbox: outbox.item(7, quality=2**63),
        "the document cannot be stored: MongoDB can only handle up to 8-byte ints",
    ),
    "a document that the validator refuses": (
        lambda outbox: outbox.item(7, owner={"id": 1, "name": "Ada", "email": "a@example.org", "version": 0}),
        "MongoDB refused the document: Document failed validation (code 121)",
    ),
    "an updated document that the validator refuses": (
        lambda outbox: outbox.item(7, 2, owner={"id": 1, "name": "Ada", "email": "a@example.org", "version": 0}),
        "MongoDB refused the document: Document failed validation (code 121)",
    ),
    "a document that is too large": (
        lambda outbox: outbox.item(7, description="x" * SIXTEEN_MEBIBYTES),
        "MongoDB holds 16777216",
    ),
}


@contextmanager
def in_one_piece() -> Iterator[None]:
    """Fail when the error of one message ends the whole batch."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whichever it is
        pytest.fail(f"the whole batch ended in {error!r}")


@pytest.mark.parametrize("kind", POISON)
def test_poison_gets_out_of_the_way_at_once_and_its_neighbours_settle(
    relay: Relay, outbox: Outbox, postgres: psycopg.Connection, read_models: Database[Document], kind: str
) -> None:
    append, expected = POISON[kind]
    outbox.user(1)
    outbox.item(1)
    poison = append(outbox)
    outbox.item(2)
    outbox.user(2)

    with in_one_piece():
        counts = relay.run_once()

    assert (counts.claimed, counts.settled, counts.failed) == (5, 4, 1)
    ((failed, state, error),) = outbox.failures()
    assert (failed, state) == (poison, "retrying")
    assert expected in error
    assert outbox.ids() == []
    for name in ("users_read", "items_read"):
        assert [document["_id"] for document in read_models[name].find().sort("_id", 1)] == [1, 2]


def test_a_dead_letter_keeps_everything_a_retry_needs(
    relay: Relay, outbox: Outbox, postgres: psycopg.Connection
) -> None:
    poison = outbox.append("item", 7, 3, "exploded", {"schema_version": 1, "text": 'quote " and ü and {brace}'})
    columns = "id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, trace_context, created_at"
    before = postgres.execute(f"SELECT {columns} FROM outbox").fetchone()
    relay.run_once()

    assert postgres.execute(f"SELECT {columns} FROM outbox_failures").fetchone() == before
    assert postgres.execute("SELECT id, attempts FROM outbox_failures").fetchone() == (poison, 1)


@pytest.mark.parametrize("version", [1, 2])
def test_a_document_just_below_the_limit_is_stored(
    relay: Relay, outbox: Outbox, read_models: Database[Document], version: int
) -> None:
    # An update carries more than its document; neither the driver nor the server may refuse it for that.
    relay.run_once()
    read_models["items_read"].drop_index("words")  # indexing so many letters is not what this is about
    outbox.item(1, version, description="x" * (SIXTEEN_MEBIBYTES - 400))
    outbox.item(2, version)

    counts = relay.run_once()

    assert (counts.settled, counts.failed) == (2, 0)


def test_older_members_of_a_coalesced_group_share_the_newests_fate(relay: Relay, outbox: Outbox) -> None:
    older = outbox.item(7, 1)
    newest = outbox.append("item", 7, 2, "exploded", {"schema_version": 1})

    counts = drain(relay)

    assert (counts.failed, counts.dead, counts.settled) == (2, 2, 0)
    assert [(failed, state) for failed, state, _ in outbox.failures()] == [(older, "dead"), (newest, "dead")]


def test_a_waiter_of_a_dead_letter_is_told_at_once(relay: Relay, outbox: Outbox, postgres: psycopg.Connection) -> None:
    relay.run_once()
    for channel in (DEAD_CHANNEL, SETTLED_CHANNEL):
        postgres.execute(f"LISTEN {channel}")
    poison = outbox.append("item", 7, 1, "exploded", {}, awaited=True)
    good = outbox.user(1, awaited=True)
    outbox.user(2)
    drain(relay)

    told = {(n.channel, n.payload.split()[1]) for n in postgres.notifies(timeout=5, stop_after=2)}
    assert told == {(DEAD_CHANNEL, str(poison)), (SETTLED_CHANNEL, str(good))}


def test_a_refused_document_does_not_stop_the_rest_of_the_bulk(
    make_relay: Callable[..., Relay], outbox: Outbox, watch: Callable[[], Watched]
) -> None:
    database, commands = watch()
    relay = make_relay(database)
    relay.run_once()
    nobody = {"id": 1, "name": "Ada", "email": "a@example.org", "version": 0}
    for item_id in range(1, 51):
        outbox.item(item_id, **({"owner": nobody} if item_id % 10 == 0 else {}))
    commands.sent.clear()

    counts = relay.run_once()

    assert (counts.settled, counts.failed) == (45, 5)
    assert len([c for c in commands.named("insert", "update") if c.get("insert") == "items_read"]) == 1


class DiedError(BaseException):
    """A projector ends here as if it was killed: nothing of ours may catch this."""


def test_a_message_that_ends_the_process_again_and_again_is_found_out(
    settings: ProjectorSettings, outbox: Outbox, watch: Callable[[], Watched], read_models: Database[Document]
) -> None:
    lane = "a projector lane 0"
    outbox.connection.execute("INSERT INTO projectors (name) VALUES (%s)", (lane,))  # it ended without having said so
    deadly = outbox.user(1)
    outbox.item(1)
    database, commands = watch()
    connection = partial(open_relay_connection, settings, "a projector", database)

    def die() -> None:
        raise DiedError

    def one_life(steps: int) -> None:
        suspects = Suspects([lane], settings.batch_size)
        delivery = Delivery.of(settings, database)
        with closing(Relay(settings, connection, delivery, ClaimPosition(), name=lane, suspects=suspects)) as relay:
            for _ in range(steps):
                relay.run_once()

    for _ in range(LIVES):
        commands.before_next("insert", "users_read", die)
        with suppress(DiedError):
            one_life(steps=1)
    one_life(steps=2)

    assert [(failed, state) for failed, state, _ in outbox.failures()] == [(deadly, "dead")]
    assert outbox.ids() == []
    assert [item["_id"] for item in read_models["items_read"].find()] == [1]


def test_the_error_of_a_dead_letter_is_cut(relay: Relay, outbox: Outbox) -> None:
    outbox.append("item", 7, 1, "x" * 5000, {})
    relay.run_once()

    ((_, _, error),) = outbox.failures()
    assert len(error) == 1000
