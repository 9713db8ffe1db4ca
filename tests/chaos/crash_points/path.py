"""A path: something that a process does to both databases, step by step, and what is done when it was not finished."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.crash_points.actor import Actor
from tests.chaos.crash_points.shop import Shop


def nothing(_: Actor) -> None:
    """Do nothing: the relays alone finish what was begun."""


@dataclass(frozen=True)
class Path:
    """`prepare` comes before it, with everything settled; `run` is the path, of which every effect is a point.

    `mend` is what has to be done before anything else goes on, `resume` what a client or an operator does afterwards.
    `beside` is what somebody else does while the path is held up, apart from relaying.
    `is_done_by_others`: what others have settled meanwhile it does not touch again.
    `empties`: which tombstones there are in the end depends on what was settled before it.
    """

    name: str
    prepare: Callable[[Shop], None]
    run: Callable[[Actor], None]
    resume: Callable[[Actor], None] = nothing
    mend: Callable[[Actor], None] = nothing
    beside: Callable[[Actor], None] = nothing
    is_done_by_others: bool = False
    empties: bool = False
