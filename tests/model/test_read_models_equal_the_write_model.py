"""Whatever commands came and however they were relayed: after a drain the read models equal the write model.

`make soak` runs this for hours: MODEL_STORIES says how many stories to make up, of MODEL_STEPS steps each.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from api.errors import DomainError
from api.expected import Expected
from api.items import commands as items
from api.items.schemas import ItemCreate, ItemUpdate
from api.settings import ApiSettings
from api.users import commands as users
from api.users.schemas import UserCreate, UserUpdate
from projector.settings import ProjectorSettings
from tests.model.world import LANES, EndedError, World

STORIES: Final = int(os.environ.get("MODEL_STORIES", "60"))
STEPS: Final = int(os.environ.get("MODEL_STEPS", "50"))

ANY: Final = Expected()

LANE = st.sampled_from(list(LANES))
NAME = st.sampled_from(("Ada", "Grace", "Edsger"))
QUALITY = st.integers(0, 3)
TAGS = st.lists(st.sampled_from(("a", "b", "c")), unique=True, max_size=3)


class Story(RuleBasedStateMachine):
    """One made-up history. A failure is printed as the steps that lead to it."""

    user_ids = Bundle("users")
    item_ids = Bundle("items")

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.world.reset()
        self.seen: dict[tuple[str, int], int] = {}
        self.emails = iter(range(1_000_000))

    def email(self) -> str:
        """Return an address that nobody has."""
        return f"user{next(self.emails)}@example.org"

    # Commands.

    @rule(target=user_ids, name=NAME, awaited=st.booleans())
    def create_user(self, name: str, *, awaited: bool) -> int:
        new = UserCreate(name=name, email=self.email())
        return self.world.do(lambda work: users.create_user(work, new), awaited=awaited).aggregate_id

    @rule(user=user_ids, name=NAME, awaited=st.booleans())
    def rename(self, user: int, name: str, *, awaited: bool) -> None:
        changes = UserUpdate(name=name, email=self.email())
        with suppress(DomainError):
            self.world.do(lambda work: users.update_user(work, user, changes, ANY), awaited=awaited)

    @rule(user=consumes(user_ids))
    def delete_user(self, user: int) -> None:
        for item in self.world.oracle.items_of(user):
            self.world.do(lambda work, item=item: items.delete_item(work, item, ANY))
        self.world.do(lambda work: users.delete_user(work, user, ANY))

    @rule(target=item_ids, owner=user_ids, quality=QUALITY, tags=TAGS, awaited=st.booleans())
    def create_item(self, owner: int, quality: int, tags: list[str], *, awaited: bool) -> int:
        new = ItemCreate(name="Brie", sell_in=1, quality=quality, owner_id=owner, tags=tags)
        return self.world.do(lambda work: items.create_item(work, new), awaited=awaited).aggregate_id

    @rule(target=item_ids, owner=user_ids, count=st.integers(3, 6))
    def create_items(self, owner: int, count: int) -> object:
        new = ItemCreate(name="Cheddar", sell_in=1, quality=1, owner_id=owner, tags=[])
        made = [self.world.do(lambda work: items.create_item(work, new)).aggregate_id for _ in range(count)]
        return multiple(*made)

    @rule(item=item_ids, quality=QUALITY, tags=TAGS)
    def change_item(self, item: int, quality: int, tags: list[str]) -> None:
        self._update(item, ItemUpdate(quality=quality, tags=tags))

    @rule(item=item_ids, owner=user_ids)
    def move_item(self, item: int, owner: int) -> None:
        self._update(item, ItemUpdate(owner_id=owner))

    def _update(self, item: int, changes: ItemUpdate) -> None:
        with suppress(DomainError):  # its owner may have taken it along
            self.world.do(lambda work: items.update_item(work, item, changes, ANY))

    @rule(item=consumes(item_ids))
    def delete_item(self, item: int) -> None:
        with suppress(DomainError):
            self.world.do(lambda work: items.delete_item(work, item, ANY))

    # Relays.

    @rule(lane=LANE)
    def step(self, lane: str) -> None:
        self.world.lanes[lane].step()

    @rule(lane=LANE, other=LANE, after=st.integers(0, 5))
    def step_and_meet(self, lane: str, other: str, after: int) -> None:
        """In the middle of one lane's batch another does a whole one."""
        if lane != other:
            self.world.lanes[lane].interruption.arm(self.world.lanes[other].step, after=after)
            self.world.lanes[lane].step()

    @rule(lane=LANE, user=user_ids, name=NAME, other=LANE, after=st.integers(0, 5))
    def step_and_rename(self, lane: str, user: int, name: str, other: str, after: int) -> None:
        """In the middle of one lane's batch a user is renamed, and another lane carries it out."""

        def meanwhile() -> None:
            self.rename(user, name, awaited=False)
            if other != lane:
                self.world.lanes[other].step()

        self.world.lanes[lane].interruption.arm(meanwhile, after=after)
        self.world.lanes[lane].step()

    @rule(lane=LANE, after=st.integers(0, 6))
    def step_and_end(self, lane: str, after: int) -> None:
        """The lane is ended between two writes; what it wrote stays, what it claimed comes again."""

        def end() -> None:
            raise EndedError

        self.world.lanes[lane].interruption.arm(end, after=after)
        self.world.lanes[lane].step()

    @rule(index=st.integers(0, 1000))
    def send_again(self, index: int) -> None:
        """A message is delivered once more, however old it is."""
        if self.world.sent:
            self.world.send_again(self.world.sent[index % len(self.world.sent)])

    @rule(count=st.integers(1, 4))
    def hold(self, count: int) -> None:
        """The oldest messages come later than newer ones."""
        self.world.hold(count)

    @rule()
    def release(self) -> None:
        self.world.release()

    # What must be true.

    @rule()
    def drain(self) -> None:
        self.world.drain()
        assert self.world.documents() == self.world.oracle.documents()

    @invariant()
    def no_document_goes_back(self) -> None:
        shown = {key: document["version"] for key, document in self.world.documents().items()}
        assert all(version >= self.seen.get(key, 0) for key, version in shown.items())
        self.seen |= shown

    def teardown(self) -> None:
        """Every story ends with a drain."""
        self.drain()


@pytest.fixture
def world(settings: ProjectorSettings, api_settings: ApiSettings) -> Iterator[World]:
    """Two databases of this test's own, and everything between them."""
    with World(settings, api_settings) as world:
        yield world


# A failure takes minutes to shrink.
@pytest.mark.timeout(0)
def test_read_models_equal_the_write_model_after_every_drain(world: World) -> None:
    run_state_machine_as_test(
        partial(Story, world),
        settings=settings(
            max_examples=STORIES,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
