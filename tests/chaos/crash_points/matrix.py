"""The matrix: every point of a path x some faults, on as many stages at a time as wanted."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.crash_points.case import Cases, Outcome
from tests.chaos.crash_points.faults import Fault, Point
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.stage import Stage


def run_path(
    path: Path,
    faults: Sequence[Fault],
    new_stage: Callable[[Path], Stage],
    stages: int = 1,
    tell: Callable[[Outcome], None] = lambda _: None,
) -> tuple[Sequence[str], Sequence[Outcome]]:
    """Run every case of a path, so many at a time, each on a stage of its own; `tell` each outcome.

    Returns the path's effects and all outcomes.
    """
    left: deque[tuple[Point, Fault]] = deque()
    outcomes: list[Outcome] = []
    first_has_rehearsed = threading.Event()

    def work(number: int) -> Sequence[str]:
        with new_stage(path) as stage, Cases(stage) as cases:
            try:
                effects = cases.rehearse()
                if number == 0:
                    left.extend((point, fault) for fault in faults for point in cases.points(fault))
            finally:
                if number == 0:
                    first_has_rehearsed.set()
            first_has_rehearsed.wait()
            while left:
                try:
                    case = left.popleft()
                except IndexError:  # somebody else took the last one
                    break
                outcome = cases.run(*case)
                outcomes.append(outcome)
                tell(outcome)
        return effects

    with ThreadPoolExecutor(stages) as pool:
        (effects, *_) = [done.result() for done in [pool.submit(work, number) for number in range(stages)]]
    return effects, outcomes
