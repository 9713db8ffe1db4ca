"""A replay that is cancelled while it makes its shadow or indexes it: nothing of it stays."""

from collections.abc import Callable

import psycopg
import pytest
from pymongo.database import Database

from projector import shadow, swap
from projector.replays import ReplayCancelledError
from shared.mongo import Document
from tests.fixtures.relays import Watched
from tests.fixtures.replays import MakeReplay, shadows, states

NAME = "items_read_shadow_begun"


@pytest.mark.parametrize(("command", "of"), [("listCollections", 1), ("createIndexes", NAME)])
def test_a_replay_that_is_cancelled_while_it_makes_its_shadow_says_so_and_leaves_nothing(
    make_replay: MakeReplay,
    watch: Callable[[], Watched],
    postgres: psycopg.Connection,
    read_models: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    of: object,
) -> None:
    monkeypatch.setattr(shadow, "new_shadow_name", lambda _: NAME)
    database, commands = watch()
    replay = make_replay("item", database)

    def cancel() -> None:
        assert shadows(read_models) == [NAME]
        assert swap.cancel(postgres, read_models) is None

    commands.before_next("create", NAME, lambda: commands.before_next(command, of, cancel))

    with pytest.raises(ReplayCancelledError):
        replay.begin()

    assert shadows(read_models) == []
    assert states(postgres) == []


def test_a_replay_that_is_cancelled_before_its_indexes_are_built_leaves_nothing(
    make_replay: MakeReplay,
    watch: Callable[[], Watched],
    postgres: psycopg.Connection,
    read_models: Database[Document],
) -> None:
    database, commands = watch()
    replay = make_replay("item", database)
    step = replay.begin()
    while step.state == "copying":
        step = replay.copy(step)

    def cancel() -> None:
        assert swap.cancel(postgres, read_models) == "item"

    # To build them makes the collection again that was dropped just now.
    commands.before_next("createIndexes", step.shadow, cancel)

    with pytest.raises(ReplayCancelledError):
        replay.verify(step)

    assert shadows(read_models) == []
    assert states(postgres) == [("item", "cancelled")]
