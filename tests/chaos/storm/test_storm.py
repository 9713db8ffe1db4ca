"""A short storm, with a fault of each kind. `make chaos` lets a long one rage."""

import os
import sys
from pathlib import Path
from random import SystemRandom

import pytest

from tests.chaos.storm.faults import SQUALL
from tests.chaos.storm.storm import rage


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="who has connected is told by Linux's /proc")
def test_whatever_breaks_nothing_acknowledged_is_lost_and_no_token_read_is_stale(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or SystemRandom().randrange(1_000_000))

    course = rage(tmp_path, seed, SQUALL, lambda course: course.has_had_every_kind(), print)

    assert [str(finding) for finding in course.findings] == []
    assert course.told.acknowledged
    assert course.told.token_reads
