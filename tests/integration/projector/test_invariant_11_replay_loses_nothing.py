"""Invariant 11: replay under load loses nothing. What a batch and a swap could do to each other, made certain."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from pymongo.database import Database

from projector import replays
from projector.relay import Relay
from projector.replay import Replay
from projector.replays import ReplayAtWork, SwapUnfinishedError
from projector.shadow import create_shadow, put_in_place
from shared.mongo import Document
from shared.postgres import READ_MODELS_LOCK
from shared.read_models import ITEMS_READ
from tests.fixtures.relays import Outbox, Watched, drain
from tests.fixtures.replays import MakeReplay, shadows, states
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import Commands

WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = %s AND wait_event = 'advisory'"
)

Copied = tuple[Replay, ReplayAtWork, int]


class DiedError(BaseException):
    """A projector ends here as if it was killed: nothing of ours may catch this."""


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A thread for what goes on meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def copied(relay: Relay, commands: Commands, make_replay: MakeReplay) -> Copied:
    """A replay that has copied all there was, where it is, and an item at its first version."""
    item_id = commands.create_item(commands.create_user())
    drain(relay)
    replay = make_replay("item")
    step = replay.begin()
    while step.state == "copying":
        step = replay.copy(step)
    return replay, step, item_id


def version_in(read_models: Database[Document], collection: str, item_id: int) -> int:
    found = read_models[collection].find_one({"_id": item_id}, {"version": 1})
    assert found
    return int(found["version"])


def waits(postgres: psycopg.Connection, session: str) -> bool:
    return postgres.execute(WAITING, (session,)).fetchone() == (1,)


def test_what_is_settled_behind_the_copy_is_in_the_shadow(
    copied: Copied, relay: Relay, commands: Commands, read_models: Database[Document]
) -> None:
    _, step, item_id = copied
    commands.rename("item", item_id, "renamed")

    assert drain(relay).settled == 1

    assert read_models[step.shadow].find_one() == read_models["items_read"].find_one()


def test_what_readers_have_seen_of_a_batch_that_died_is_still_there_after_the_swap(
    copied: Copied,
    commands: Commands,
    make_relay: Callable[..., Relay],
    watch: Callable[[], Watched],
    read_models: Database[Document],
) -> None:
    # One of the two collections has the batch, and nobody delivers it again before the swap.
    replay, step, item_id = copied
    database, sent = watch()
    dying, begun = make_relay(database), list[str]()
    commands.rename("item", item_id, "renamed")

    def die_before_the_second() -> None:
        begun.append("write")
        if len(begun) == 2:
            raise DiedError

    for name in (step.shadow, "items_read"):
        sent.before_next("update", name, die_before_the_second)
    with pytest.raises(DiedError):
        dying.run_once()
    dying.close()
    seen = version_in(read_models, "items_read", item_id)
    replay.run()

    assert version_in(read_models, "items_read", item_id) >= seen


def test_a_swap_waits_for_the_batch_that_is_about_to_write(
    copied: Copied,
    commands: Commands,
    make_relay: Callable[..., Relay],
    watch: Callable[[], Watched],
    pool: ThreadPoolExecutor,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    replay, step, item_id = copied
    database, sent = watch()
    relay = make_relay(database, batch_deadline_seconds=60)  # as long as the swap takes to wait on a busy machine
    commands.rename("item", item_id, "renamed")
    swapped: list[bool] = []

    def swap_meanwhile() -> None:
        swapping = pool.submit(replay.run)
        wait_until(lambda: swapping.done() or waits(postgres, "test replay"), "it has swapped, or waits")
        swapped.append(swapping.done())

    sent.before_next("update", step.shadow, swap_meanwhile)

    assert relay.run_once().settled == 1

    assert swapped == [False]
    pool.shutdown()
    assert states(postgres) == [("item", "done")]
    assert shadows(read_models) == []
    assert version_in(read_models, "items_read", item_id) == 2


def test_a_batch_that_waited_for_the_lock_knows_the_shadow_that_was_registered_meanwhile(
    relay: Relay,
    outbox: Outbox,
    pool: ThreadPoolExecutor,
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    relay.run_once()
    outbox.item(1)
    shadow, uuid = create_shadow(read_models, ITEMS_READ)
    postgres.execute("SELECT pg_advisory_lock(%s)", (READ_MODELS_LOCK,))
    batch = pool.submit(relay.run_once)
    wait_until(lambda: waits(postgres, "test relay"), "the batch waits for the read models")
    replays.register(postgres, ITEMS_READ, shadow, uuid, expected=0)
    postgres.execute("SELECT pg_advisory_unlock(%s)", (READ_MODELS_LOCK,))

    assert batch.result(30).settled == 1

    assert [item["_id"] for item in read_models[shadow].find()] == [1]


def test_a_batch_that_finds_a_swap_unfinished_writes_nothing(
    copied: Copied, commands: Commands, relay: Relay, postgres: psycopg.Connection, read_models: Database[Document]
) -> None:
    _, step, item_id = copied
    commands.rename("item", item_id, "renamed")
    # As a process leaves it that dies right after the rename.
    replays.move(postgres, step.id, "swapping")
    assert put_in_place(read_models, step.shadow, step.shadow_uuid, "items_read")

    with pytest.raises(SwapUnfinishedError):
        relay.run_once()

    assert shadows(read_models) == []
    assert version_in(read_models, "items_read", item_id) == 1
    assert drain(relay).settled == 1
    assert states(postgres) == [("item", "done")]
