"""How long one waits before anything happens."""

import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.speed.benchmark import Benchmark, Report, Result, Scale, Target, of_figures
from benchmarks.speed.servers import ROOT, Servers
from devstack.instance import Instance


def up(benchmark: Benchmark, _: Servers, scale: Scale, report: Report) -> Sequence[Result]:
    """Return the seconds from `kata up` on a warm data directory until everything answers."""
    found = []
    with Instance() as kata:
        for _round in range(scale.times(7)):
            kata.down()
            begun = time.perf_counter()
            kata.up()
            found.append(time.perf_counter() - begun)
            report(f"{found[-1]:.2f} s")
    return of_figures(benchmark, found)


def show_help(benchmark: Benchmark, _: Servers, scale: Scale, report: Report) -> Sequence[Result]:
    """Return the seconds of `projector --help`."""
    found = []
    for _round in range(scale.times(15)):
        begun = time.perf_counter()
        command = [sys.executable, "-m", "projector.cli", "--help"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - begun)
        report(f"{found[-1]:.2f} s")
    # The first one reads the files from the disk.
    return of_figures(benchmark, found[1:])


STARTING: Final[tuple[Benchmark, ...]] = (
    Benchmark("start-up", "`kata up` on a warm data directory, to its first answer", Target(3, "most", unit="s"), up),
    Benchmark("start-help", "`projector --help`", Target(0.3, "most", unit="s"), show_help),
)
