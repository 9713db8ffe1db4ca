"""Every benchmark, in the order of the report. A new one adds its line here."""

from typing import Final

from benchmarks.speed.benchmark import Benchmark
from benchmarks.speed.drain import DRAIN
from benchmarks.speed.forms import COMMAND_FORMS
from benchmarks.speed.history import HISTORY
from benchmarks.speed.peers import AGAINST_PEERS
from benchmarks.speed.reading import READING
from benchmarks.speed.rebuilding import REBUILDING
from benchmarks.speed.starting import STARTING
from benchmarks.speed.waking import WAKING
from benchmarks.speed.wal import WAL
from benchmarks.speed.writing import WRITING

BENCHMARKS: Final[tuple[Benchmark, ...]] = (
    *DRAIN,
    *AGAINST_PEERS,
    *WAKING,
    *WAL,
    *WRITING,
    *COMMAND_FORMS,
    *READING,
    *REBUILDING,
    *HISTORY,
    *STARTING,
)
