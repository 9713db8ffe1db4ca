"""The paths of a lane: batches of all kinds, settling, effects in steps, and batches beside a replay."""

from tests.chaos.crash_points.actor import Actor
from tests.chaos.crash_points.effects import watching
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.shop import Shop

# No item ever has these ids.
NOBODY = 900


def prepare_batch(shop: Shop) -> None:
    """Of users and items something new, something changed and something deleted."""
    shop.user("Eve")
    shop.rename("user", "Ada", "Ada Lovelace")
    shop.item("Eve", "pen")
    shop.rename("item", "lamp", "lava lamp")
    shop.rename("item", "pen", "fountain pen")
    shop.delete("item", "desk")
    shop.user("Dan")
    shop.delete("user", "Dan")


def prepare_poisoned_batch(shop: Shop) -> None:
    """The same, and in the middle of it what nobody can read."""
    prepare_batch(shop)
    shop.append_poison(NOBODY)
    shop.rename("item", "rug", "carpet")


def prepare_settling(shop: Shop) -> None:
    """Settled and dead with somebody waiting, unfinished, and what makes a failure pointless."""
    shop.append_poison(shop.ids["lamp"], again_in="0 s")
    shop.append_poison(NOBODY, again_in="0 s")
    shop.append_poison(NOBODY + 1)
    shop.rename("item", "lamp", "lava lamp")
    shop.rename("user", "Bob", "Bob Dylan")
    shop.item("Ada", "pen")
    shop.await_everything()


def prepare_fan_out(shop: Shop) -> None:
    """Rename a user who has so many items that it takes several steps, with a neighbour in the batch."""
    for number in range(3):
        shop.item("Ada", f"cup {number}")
    shop.settle()
    shop.rename("user", "Ada", "Ada Lovelace")
    shop.rename("item", "lamp", "lava lamp")


def relay_from_the_start(actor: Actor) -> None:
    """Start, connect, look at what a predecessor left, and relay."""
    with watching():
        actor.relay()


def relay(actor: Actor) -> None:
    """Relay, long after the start."""
    with watching():
        actor.relay(connected=True)


PATHS = (
    Path("relay", prepare_poisoned_batch, relay_from_the_start, is_done_by_others=True),
    Path("settle", prepare_settling, relay, is_done_by_others=True),
    Path("fan-out step", prepare_fan_out, relay, is_done_by_others=True),
)
