"""The paths of operators and of housekeeping: replay, swap, repair, purge, clean, handshake, dead letters."""

from datetime import UTC, datetime, timedelta

from api.scripts import clean_mongo
from projector import dead_letters, replays, swap, tombstones
from projector.dead_letters import Selection
from projector.handshake import shake_hands
from projector.replay import Replay
from projector.replay_run import replay
from projector.tombstones import TombstonePurge
from projector.verification_run import verify
from shared.installation import check_read_models
from tests.chaos.crash_points.actor import Actor
from tests.chaos.crash_points.effects import watching
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.relay_paths import NOBODY, prepare_batch
from tests.chaos.crash_points.shop import Shop

TYPES = ("user", "item")
LONG_AGO = datetime.now(UTC) - timedelta(days=30)


def prepare_replay(shop: Shop) -> None:
    """A shop with tombstones, and with messages on their way: one of something deleted, one that failed."""
    shop.rename("item", "lamp", "lava lamp")
    shop.delete("item", "rug")
    # Not due before the end: whether it is pointless depends on whether the swap was before its attempt.
    shop.append_poison(NOBODY, again_in="1 hour")


def replay_items(_: Actor) -> None:
    """`projector replay items`, from its first look to its swap."""
    with watching():
        replay(["item"])


def replay_all(_: Actor) -> None:
    """`projector replay`."""
    replay(TYPES)


def prepare_batch_beside_a_replay(shop: Shop) -> None:
    """A replay of items that has copied some of its rows, and a batch of everything."""
    begun = a_replay(shop.actor)
    begun.copy(begun.copy(begun.begin()))
    prepare_batch(shop)


def relay_beside_a_replay(actor: Actor) -> None:
    """Relay while a replay is at work."""
    with watching():
        actor.relay(connected=True)


def resume_replay(_: Actor) -> None:
    """`projector replay items`, which goes on with the one that was begun."""
    replay(["item"])


def prepare_swap(shop: Shop) -> None:
    """A replay that has been verified, while messages go on coming."""
    rebuild = a_replay(shop.actor)
    at = rebuild.begin()
    while at.state == "copying":
        at = rebuild.copy(at)
    rebuild.verify(at)
    shop.rename("item", "lamp", "lava lamp")
    shop.delete("item", "rug")


def swap_in(actor: Actor) -> None:
    """Put the shadow in place."""
    connection, _ = actor.open_relay_connection()
    with watching():
        at = replays.at_work(connection)
        assert at
        swap.swap(connection, actor.database, at)


def a_replay(actor: Actor) -> Replay:
    """Return a replay of items to be stepped."""
    return Replay(*actor.open_relay_connection(), actor.database, "item", page_deadline_seconds=10)


def prepare_drift(shop: Shop) -> None:
    """Documents that are missing, stale, different, orphaned, ahead of their rows, or embed an owner who is."""
    shop.lose("user", "Bob")
    shop.lose("item", "brie")
    shop.spoil("item", "desk", quality=99)
    shop.spoil("item", "lamp", version=7)
    shop.spoil("item", "rug", owner={"id": shop.ids["Bob"], "name": "Bobby", "email": "b@example.org", "version": 5})
    orphan = shop.database["items_read"].find_one({"_id": shop.ids["desk"]})
    assert orphan
    shop.database["items_read"].insert_one({**orphan, "_id": NOBODY})


def repair(_: Actor) -> None:
    """`projector verify --deep --repair`."""
    with watching():
        verify(TYPES, deep=True, repair=True, size=None)


def prepare_tombstones(shop: Shop) -> None:
    """Old tombstones: some that nothing keeps, and one of whose aggregate a message is left."""
    shop.item("Ada", "kite")
    shop.delete("item", "kite")
    shop.settle()
    for collection in (shop.database["users_read"], shop.database["items_read"]):
        collection.update_many({"deleted_at": {"$exists": True}}, {"$set": {"deleted_at": LONG_AGO}})
    shop.append_poison(shop.ids["kite"], again_in="0 s")


def purge(actor: Actor) -> None:
    """Two rounds of housekeeping, an hour apart."""
    now = [0.0]
    purging = TombstonePurge(actor.settings, actor.open_unwatched, actor.database, lambda: now[0])
    with watching():
        purging.run_once()
        now[0] += tombstones.SEEN_BEFORE_SECONDS
        purging.run_once()


def prepare_clean(shop: Shop) -> None:
    """Messages on their way: one of something deleted, and one of something that changes."""
    shop.rename("item", "lamp", "lava lamp")
    shop.delete("item", "rug")


def clean(_: Actor) -> None:
    """`python api/scripts/clean_mongo.py`."""
    with watching():
        clean_mongo.main()


def clean_again(_: Actor) -> None:
    """What an operator does after a clean that broke off: until then no projector works."""
    clean_mongo.main()


def handshake(actor: Actor) -> None:
    """Shake hands twice."""
    connection = actor.connection
    with watching():
        shake_hands(connection, actor.database)
        shake_hands(connection, actor.database)


def shake_hands_again(actor: Actor) -> None:
    """Shake hands as the next projector does, and look whether both sides are at one."""
    connection = actor.connection
    shake_hands(connection, actor.database)
    check_read_models(connection, actor.database)


def prepare_dead_letters(shop: Shop) -> None:
    """Three of them."""
    for number in range(3):
        shop.append_poison(NOBODY + number)
    shop.settle()


def retry_and_discard(actor: Actor) -> None:
    """Give one message up, and try another again."""
    connection = actor.connection
    with watching():
        dead_letters.discard(connection, Selection.of_aggregate("item", NOBODY))
        dead_letters.retry(connection, Selection.of_aggregate("item", NOBODY + 1))


PATHS = (
    Path(
        "relay beside a replay",
        prepare_batch_beside_a_replay,
        relay_beside_a_replay,
        resume_replay,
        beside=resume_replay,
        is_done_by_others=True,
    ),
    Path("replay", prepare_replay, replay_items, resume_replay),
    Path("swap", prepare_swap, swap_in, resume_replay),
    Path("repair", prepare_drift, repair, repair, beside=repair),
    Path("purge", prepare_tombstones, purge, purge, beside=purge),
    Path("clean", prepare_clean, clean, replay_all, clean_again, empties=True),
    Path("handshake", lambda _: None, handshake, shake_hands_again, beside=shake_hands_again),
    Path("dead letters", prepare_dead_letters, retry_and_discard, retry_and_discard, beside=retry_and_discard),
)
