"""Every crash point of commands and of the relay's lanes."""

from collections.abc import Callable

import pytest

from tests.chaos.crash_points import pinned
from tests.chaos.crash_points.control_path import PATHS as CONTROL
from tests.chaos.crash_points.examine import FAULTS, examine
from tests.chaos.crash_points.matrix import run_path
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.paths import PATHS
from tests.chaos.crash_points.stage import Stage
from tests.chaos.crash_points.test_replays import REPLAYS
from tests.chaos.crash_points.test_upkeep import UPKEEP

COMMANDS_AND_LANES = ["command", "relay", "settle", "fan-out step"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", COMMANDS_AND_LANES)
def test_nothing_is_lost_wherever_it_is_killed_or_fails(path: str, new_stage: Callable[[Path], Stage]) -> None:
    examine(path, new_stage)


def test_every_path_is_examined_and_pinned() -> None:
    assert {*COMMANDS_AND_LANES, *REPLAYS, *UPKEEP} == PATHS.keys() == pinned.read().keys()


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
