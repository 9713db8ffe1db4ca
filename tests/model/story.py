"""A made-up history: commands, relays and operators in any interleaving, told step by step when it fails."""

import ast
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from api.errors import DomainError
from api.expected import Expected
from api.items import commands as items
from api.items.schemas import ItemCreate, ItemUpdate
from api.users import commands as users
from api.users.schemas import UserCreate, UserUpdate
from shared.events.event import Event
from tests.model.commands import Command
from tests.model.drain import drain
from tests.model.harm import REFUSALS, WAYS_TO_SPOIL
from tests.model.stage import TO_THE_END, KilledError, LostServersError
from tests.model.world import LANES, World

ANY: Final = Expected()

LANE = st.sampled_from(list(LANES))
BUSY = st.runner().flatmap(lambda story: st.sampled_from(story.world.stage.busy))
NAME = st.sampled_from(("Ada", "Grace", "Edsger"))
QUALITY = st.integers(0, 3)
TAGS = st.lists(st.sampled_from(("a", "b", "c")), unique=True, max_size=3)
MOVES = st.sampled_from((TO_THE_END, *range(1, 13)))
# Whether the relays hear of a commit, whether a client waits for it; and a transaction that stays open for a while.
HOW = st.sampled_from(("unheard", "heard", "awaited", "open"))
HARM = st.sampled_from(WAYS_TO_SPOIL)
# What is spoiled cannot be expected to be right: most is not.
MOST_SPOILED: Final = 2
# A drain takes long, and afterwards nothing is on its way.
FEWEST_BETWEEN_DRAINS: Final = 10

OPERATIONS: Final[dict[str, tuple[str, Callable[[World], object]]]] = {
    "verifies": ("verify", lambda world: world.begin_verification(repairs=False)),
    "repairs": ("verify", lambda world: world.begin_verification(repairs=True)),
    "cleans": ("operator", World.begin_cleaning),
    "cancels the replay": ("operator", World.begin_cancelling),
    "purges tombstones": ("operator", World.begin_purge),
}


# Tells one story again: the bytes that were printed when it failed.
AGAIN: Final = "STORY"


class Story(RuleBasedStateMachine):
    """One made-up history. A failure is printed as the steps that lead to it, with what each sent to the databases."""

    user_ids = Bundle("users")
    item_ids = Bundle("items")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.world.begin_story()
        self.emails = iter(range(1_000_000))
        self.steps = self.drained_at = 0

    @initialize(target=user_ids)
    def two_users(self) -> Any:
        """Without users not much can happen."""
        new = [UserCreate(name=name, email=self._email()) for name in ("Ada", "Grace")]
        return self._created(*[self._do(lambda work, new=each: users.create_user(work, new)) for each in new])

    # Commands.

    @rule(target=user_ids, name=NAME, how=HOW)
    def create_user(self, name: str, how: str) -> Any:
        new = UserCreate(name=name, email=self._email())
        return self._created(self._do(lambda work: users.create_user(work, new), how))

    @rule(user=user_ids, name=NAME, how=HOW)
    def rename(self, user: int, name: str, how: str) -> None:
        changes = UserUpdate(name=name, email=self._email())
        self._do(lambda work: users.update_user(work, user, changes, ANY), how)

    @rule(user=consumes(user_ids))
    def delete_user(self, user: int) -> None:
        for item in self.world.judge.oracle.items_of(user):
            self._do(lambda work, item=item: items.delete_item(work, item, ANY))
        self._do(lambda work: users.delete_user(work, user, ANY))

    @rule(target=item_ids, owner=user_ids, quality=QUALITY, tags=TAGS, how=HOW)
    def create_item(self, owner: int, quality: int, tags: list[str], how: str) -> Any:
        new = ItemCreate(name="Brie", sell_in=1, quality=quality, owner_id=owner, tags=tags)
        return self._created(self._do(lambda work: items.create_item(work, new), how))

    @rule(target=item_ids, owner=user_ids, count=st.integers(3, 6))
    def create_items(self, owner: int, count: int) -> Any:
        new = ItemCreate(name="Cheddar", sell_in=1, quality=1, owner_id=owner, tags=[])
        return self._created(*[self._do(lambda work: items.create_item(work, new)) for _ in range(count)])

    @rule(item=item_ids, quality=QUALITY, tags=TAGS, how=HOW)
    def change_item(self, item: int, quality: int, tags: list[str], how: str) -> None:
        changes = ItemUpdate(quality=quality, tags=tags)
        self._do(lambda work: items.update_item(work, item, changes, ANY), how)

    @rule(item=item_ids, owner=user_ids, how=HOW)
    def move_item(self, item: int, owner: int, how: str) -> None:
        changes = ItemUpdate(owner_id=owner)
        self._do(lambda work: items.update_item(work, item, changes, ANY), how)

    @rule(item=consumes(item_ids))
    def delete_item(self, item: int) -> None:
        self._do(lambda work: items.delete_item(work, item, ANY))

    @precondition(lambda self: self.world.open)
    @rule(index=st.integers(0, 2), commits=st.booleans())
    def end_transaction(self, index: int, *, commits: bool) -> None:
        self.world.end_transaction(index % len(self.world.open), commits=commits)

    # Relays, and whoever is at work.

    @rule(moves=MOVES)
    def whole_relays(self, moves: int) -> None:
        self.world.relay("whole", moves)

    @rule(moves=MOVES)
    def small_relays(self, moves: int) -> None:
        self.world.relay("small", moves)

    @rule(moves=MOVES)
    def serving_relays(self, moves: int) -> None:
        self.world.relay("serving", moves)

    @rule(lane=LANE, moves=MOVES, other=LANE)
    def relay_while_another_does(self, lane: str, moves: int, other: str) -> None:
        """In the middle of a lane's batch another lane does a whole one."""
        self.world.relay(lane, moves)
        self.world.relay(other, TO_THE_END)

    @precondition(lambda self: self.world.stage.busy)
    @rule(who=BUSY, moves=MOVES)
    def go_on(self, who: str, moves: int) -> None:
        self.world.go_on(who, moves)

    @precondition(lambda self: self.world.stage.busy)
    @rule(who=BUSY, how=st.sampled_from(("is killed", "loses its servers")))
    def end(self, who: str, how: str) -> None:
        self.world.end(who, KilledError if how == "is killed" else LostServersError)

    @precondition(lambda self: not self.world.time_has_passed)
    @rule()
    def time_passes(self) -> None:
        self.world.let_time_pass()

    @precondition(lambda self: self.world.sent)
    @rule(index=st.integers(0, 100))
    def send_again(self, index: int) -> None:
        """A message is delivered once more, however old it is."""
        self.world.send_again(index)

    # Operators.

    @rule(of=st.sampled_from(("user", "item")), moves=MOVES)
    def replay(self, of: str, moves: int) -> None:
        if self.world.stage.actors["replay"].is_idle:
            self.world.begin_replay(of)
        self.world.go_on("replay", moves)

    @rule(what=st.sampled_from(list(OPERATIONS)), moves=MOVES)
    def operator(self, what: str, moves: int) -> None:
        who, begin = OPERATIONS[what]
        if self.world.stage.actors[who].is_idle:
            begin(self.world)
        self.world.go_on(who, moves)

    @precondition(lambda self: self.world.has_dead_letters)
    @rule(retry=st.booleans())
    def answer_dead_letters(self, *, retry: bool) -> None:
        self.world.answer_dead_letters(retry=retry)

    # What goes wrong.

    @rule(what=st.sampled_from(list(REFUSALS)))
    def mongodb_refuses(self, what: str) -> None:
        self.world.refuse(what)

    @precondition(lambda self: len(self.world.judge.spoiled) < MOST_SPOILED)
    @rule(user=user_ids, how=HARM)
    def user_is_spoiled(self, user: int, how: str) -> None:
        self.world.spoil("users_read", user, how)

    @precondition(lambda self: len(self.world.judge.spoiled) < MOST_SPOILED)
    @rule(item=item_ids, how=HARM)
    def item_is_spoiled(self, item: int, how: str) -> None:
        self.world.spoil("items_read", item, how)

    # What must be true.

    @precondition(lambda self: self.steps - self.drained_at >= FEWEST_BETWEEN_DRAINS)
    @rule(by_replays=st.booleans())
    def drained(self, *, by_replays: bool) -> None:
        """All comes to its end; what was spoiled is mended by replays or by repairs."""
        self.drained_at = self.steps
        drain(self.world, by_replays=by_replays)
        self.world.stage.lines[:] = ["all is settled and equal"]

    def check_invariants(self, *_: object) -> None:
        """Nothing that was shown is replaced by something older. After every step, and not told each time."""
        self._tell()
        self.steps += 1
        self.world.tally["steps"] += 1
        self.world.judge.check_that_nothing_goes_back()

    def teardown(self) -> None:
        """Every story ends with a drain."""
        try:
            if sys.exception() is None:
                drain(self.world, by_replays=False)
        finally:
            self._tell()
            self.world.end_story()

    def _tell(self) -> None:
        for line in self.world.stage.lines:
            note(f"  {line}")
        self.world.stage.lines.clear()

    def _email(self) -> str:
        """Return an address that nobody has."""
        return f"user{next(self.emails)}@example.org"

    def _do(self, command: Command, how: str = "unheard") -> Event | None:
        """Run a command; None when it is refused: there may be no such aggregate any more."""
        with suppress(DomainError):
            if how == "open" and len(self.world.open) < 3:
                return self.world.begin(command)
            return self.world.do(command, awaited=how == "awaited", heard=how in ("heard", "awaited"))
        return None

    def _created(self, *events: Event | None) -> MultipleResults[int]:
        return multiple(*(event.aggregate_id for event in events if event))


def tell(story: Callable[[], Story], *, stories: int, steps: int, **how: Any) -> None:
    """Make up so many stories and tell them, until one fails. That one is made shorter, and raised.

    `how` are more of Hypothesis's settings.
    """
    again = os.environ.get(AGAIN)
    if again:
        hypothesis.reproduce_failure(hypothesis.__version__, ast.literal_eval(again))(story)
    run_state_machine_as_test(
        story,
        settings=settings(
            max_examples=stories,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            **how,
        ),
    )


def in_world(world: World, kind: type[Story] = Story) -> Callable[[], Story]:
    """Return what begins a story in this world."""
    return partial(kind, world)
