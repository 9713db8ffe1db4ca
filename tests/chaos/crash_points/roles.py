"""What a process does in a case: come to grief, work beside the one that did, or come after it."""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from tests.chaos.crash_points.actor import Actor
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.shop import Shop

Role = Literal["victim", "beside it", "mends it", "after it"]


def run_path(path: Path, actor: Actor, _: dict[str, int]) -> None:
    """Be the victim."""
    path.run(actor)


def work_beside(path: Path, actor: Actor, ids: dict[str, int]) -> None:
    """Relay all there is, while commands go on coming, and others do the same as the victim."""
    lane = actor.lane()
    actor.settle_all(lane)
    trade(Shop(actor, ids))
    path.beside(actor)
    actor.settle_all(lane)


def mend(path: Path, actor: Actor, _: dict[str, int]) -> None:
    """Do what has to be done before anybody else can go on."""
    path.mend(actor)


def recover(path: Path, actor: Actor, ids: dict[str, int]) -> None:
    """Relay all there is, and have client or operator do what they do when something was not finished."""
    lane = actor.lane()
    if not actor.notes.get("mended"):
        path.mend(actor)
    actor.settle_all(lane)
    if not actor.notes.get("traded"):
        trade(Shop(actor, ids))
        actor.settle_all(lane)
    path.resume(actor)
    actor.settle_all(lane)


def trade(shop: Shop) -> None:
    """Do what goes on meanwhile: rename somebody who has items, sell something, add somebody with something."""
    shop.rename("user", "Ada", "Ada King")
    shop.delete("item", "brie")
    shop.user("Fay")
    shop.item("Fay", "fork")


ROLES: Final[Mapping[Role, Callable[[Path, Actor, dict[str, int]], None]]] = {
    "victim": run_path,
    "beside it": work_beside,
    "mends it": mend,
    "after it": recover,
}
