"""Every crash point of every path, for what can be had quickly: an error, and a kill."""

from collections.abc import Callable
from typing import Final

import pytest

from tests.chaos.crash_points import pinned
from tests.chaos.crash_points.control_path import PATHS as CONTROL
from tests.chaos.crash_points.faults import Fault
from tests.chaos.crash_points.matrix import run_path
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.paths import PATHS
from tests.chaos.crash_points.stage import Stage

FAULTS: Final = (Fault.EXCEPTION, Fault.KILLED)
STAGES: Final = 3


def test_the_pinned_effects_are_those_of_all_paths() -> None:
    assert pinned.read().keys() == PATHS.keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_lost_wherever_it_is_killed_or_fails(path: str, new_stage: Callable[[Path], Stage]) -> None:
    effects, outcomes = run_path(PATHS[path], FAULTS, new_stage, STAGES)

    assert list(effects) == pinned.read()[path], f"the effects of {path!r} are others now: `{pinned.COMMAND}`"
    assert len(outcomes) == 3 * len(effects) + 1
    assert [str(outcome) for outcome in outcomes if outcome.wrong] == []


def test_a_path_that_is_not_safe_is_found_out(new_stage: Callable[[Path], Stage]) -> None:
    _, outcomes = run_path(CONTROL[0], FAULTS, new_stage)

    wrong = {f"{outcome.fault.value} {outcome.point}": outcome.wrong for outcome in outcomes if outcome.wrong}
    assert wrong.keys() == {
        f"{fault.value} {point}"
        for fault in FAULTS
        for point in ("after PostgreSQL INSERT INTO users", "before MongoDB insert users_read")
        if f"{fault.value} {point}" != "killed before MongoDB insert users_read"
    }
    assert all("lost" in " ".join(texts) for texts in wrong.values())
