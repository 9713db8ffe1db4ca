"""Stages on the servers of the session."""

from collections.abc import Callable
from itertools import count

import pytest

from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.stage import Stage

_numbers = count(1)


@pytest.fixture
def new_stage(
    create_database: Callable[[str | None], str], template: str, mongo_url: str, worker_id: str
) -> Callable[[Path], Stage]:
    """Makes a stage for a path."""
    return lambda path: Stage(path, create_database(template), mongo_url, f"crash_{worker_id}_{next(_numbers)}")
