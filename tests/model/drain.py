"""A drain: everything that was begun comes to its end, and then the read models are what the oracle says."""

from typing import Any, Final

from tests.model.judge import key_of
from tests.model.oracle import Key
from tests.model.stage import TO_THE_END
from tests.model.world import LANES, World

ROUNDS: Final = 200

UNSETTLED: Final = """
    SELECT id, event_type, aggregate_id, aggregate_version, NULL AS error FROM outbox
    UNION ALL
    SELECT id, event_type, aggregate_id, aggregate_version, error FROM outbox_failures WHERE state <> 'discarded'
    ORDER BY id
"""


def drain(world: World, *, by_replays: bool) -> None:
    """Let all come to its end, and compare everything. What was spoiled is mended by replays, or by repairs.

    Verify must find exactly what differs, nothing when nothing does, and what it finds must be mended.
    """
    _finish(world)
    world.answer_dead_letters(retry=True)
    _relay_all(world)
    differing = world.judge.differing()
    wrong = {key for key in differing if not world.judge.is_excused(key)}
    assert not wrong, f"not what the write model says:\n{world.judge.show(wrong)}"
    found = _verify(world, repair=not by_replays)
    assert found == differing, f"verify found {sorted(found)}, these differ: {sorted(differing)}"
    if differing:
        _mend(world, by_replays=by_replays)
    _expect_no_shadows(world)
    world.judge.all_is_right()
    world.tally["drains"] += 1


def _finish(world: World) -> None:
    """Let everybody finish, and an operator do what is left half done."""
    while world.open:
        world.end_transaction(0, commits=True)
    world.finish()
    if world.is_half_empty:
        world.begin_cleaning()
        world.finish()
    if world.postgres.execute("SELECT FROM replays WHERE ended_at IS NULL").fetchone():
        world.begin_replay("user")  # the one that was interrupted, whichever it is
        world.finish()


def _relay_all(world: World) -> None:
    for _ in range(ROUNDS):
        left: list[Any] = world.postgres.execute(UNSETTLED).fetchall()
        if not left:
            return
        world.let_time_pass()
        for lane in LANES:
            world.relay(lane, TO_THE_END)
        world.finish()
    raise AssertionError(f"not settled: {left}")


def _verify(world: World, *, repair: bool) -> set[Key]:
    found: set[Key] = set()
    world.operators.verify(world.postgres, repair=repair, on_drift=lambda drift: found.add(key_of(drift)))
    world.finish()
    return found


def _mend(world: World, *, by_replays: bool) -> None:
    if by_replays:
        for aggregate_type in ("user", "item"):
            world.begin_replay(aggregate_type)
            world.finish()
    _relay_all(world)
    differing = world.judge.differing()
    assert not differing, f"not mended:\n{world.judge.show(differing)}"
    found = _verify(world, repair=False)
    assert not found, f"nothing differs, but verify found {sorted(found)}"


def _expect_no_shadows(world: World) -> None:
    if world.may_have_left_shadows:
        # One that was not registered yet is dropped by whoever replays or cancels next.
        world.begin_cancelling()
        world.finish()
        world.may_have_left_shadows = False
    left = [name for name in world.read_models.list_collection_names() if "shadow" in name]
    assert not left, f"left behind: {left}"
