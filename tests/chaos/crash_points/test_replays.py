"""Every crash point of a replay, from its first look to its last swap."""

from collections.abc import Callable

import pytest

from tests.chaos.crash_points.examine import examine
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.stage import Stage

REPLAYS = ["replay", "relay beside a replay"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", REPLAYS)
def test_nothing_is_lost_wherever_it_is_killed_or_fails(path: str, new_stage: Callable[[Path], Stage]) -> None:
    examine(path, new_stage)
