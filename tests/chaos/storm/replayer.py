"""An operator who rebuilds the read models again and again: to the end, killed half-way and resumed, or cancelled."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Final

from devstack.applications import inherited_environment
from devstack.layout import CHECKOUT

PROJECTOR: Final = (sys.executable, "-m", "projector.cli")
# What `projector` may end with while everything around it breaks: a finding that says why, or a server that is away.
EXCUSED: Final = {1, 3}
EXCUSES: Final = ("was cancelled", "is at work since", "was at work just now", "could not be reached", "was replaced")
COMMAND_SECONDS: Final = 180
REPLAY: Final = "replay"


class Replayer:
    """Runs `projector replay`; counts how it ended, and keeps what cannot be excused."""

    def __init__(self, stores: Mapping[str, str], log: Path, seed: int) -> None:
        self._environment = inherited_environment(stores)
        self._log = log
        self._random = Random(f"{seed} replayer")  # noqa: S311 - to be repeated
        self.ends: Counter[str] = Counter()
        self.inexcusable: list[str] = []

    def run(self, stop: threading.Event) -> None:
        """Go on until told to stop; the last replay is brought to its end."""
        while not stop.is_set():
            self.step(stop)
            stop.wait(self._random.uniform(0, 1))

    def step(self, stop: threading.Event) -> None:
        """Begin a replay, or go on with the one that was interrupted, and let it end in one of the three ways."""
        replay = self._begin(REPLAY)
        match self._random.choice(("to the end", "to the end", "killed", "cancelled")):
            case "killed":
                stop.wait(self._random.uniform(1, 4))
                replay.kill()
            case "cancelled":
                stop.wait(self._random.uniform(1, 4))
                self._end(self._begin(REPLAY, "--cancel"))
        self._end(replay)

    def finish(self) -> None:
        """Bring whatever was interrupted to its end; nothing is broken any more."""
        self._end(self._begin(REPLAY))

    def verify(self) -> Iterator[str]:
        """Yield what `projector verify` says of all documents and their rows, unless it finds no drift."""
        verify = self._begin("verify", "--deep")
        said, _ = verify.communicate(timeout=COMMAND_SECONDS)
        if verify.returncode:
            yield f"`projector verify` ended with {verify.returncode}: {said}"

    def _begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROJECTOR, *arguments],
            cwd=CHECKOUT, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _end(self, command: subprocess.Popen[str]) -> None:
        begun = time.monotonic()
        try:
            said, _ = command.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            command.kill()
            said, _ = command.communicate()
            self.inexcusable.append(f"{command.args} did not end: {said}")
        what = " ".join(command.args[3:])
        code = command.returncode
        self.ends[f"{what}: {'done' if code == 0 else 'killed' if code < 0 else 'given up'}"] += 1
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{begun:.3f} {what} ended with {code}: {said}\n")
        if code > 0 and not (code in EXCUSED and any(excuse in said for excuse in EXCUSES)):
            self.inexcusable.append(f"`projector {what}` ended with {code}: {said}")
