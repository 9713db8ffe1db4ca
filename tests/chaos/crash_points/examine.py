"""What CI asks of a path: every point, for what can be had quickly."""

from collections.abc import Callable
from typing import Final

from tests.chaos.crash_points import pinned
from tests.chaos.crash_points.faults import Fault
from tests.chaos.crash_points.matrix import run_path
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.paths import PATHS
from tests.chaos.crash_points.stage import Stage

FAULTS: Final = (Fault.EXCEPTION, Fault.KILLED)
STAGES: Final = 6


def examine(name: str, new_stage: Callable[[Path], Stage]) -> None:
    """Fail when the path's effects are not those that are pinned, or anything is wrong after any of the cases."""
    effects, outcomes = run_path(PATHS[name], FAULTS, new_stage, STAGES)
    assert list(effects) == pinned.read()[name], f"the effects of {name!r} are others now: `{pinned.COMMAND}`"
    assert len(outcomes) == 3 * len(effects) + 1
    assert [str(outcome) for outcome in outcomes if outcome.wrong] == []
