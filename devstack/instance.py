"""A detached instance on a data directory of its own, for scripts and tests: started, used, stopped, removed."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.layout import CHECKOUT
from devstack.scratch import scratch_directory

START_SECONDS = 120

Completed = subprocess.CompletedProcess[str]


class Instance:
    """`with Instance(projectors=2) as kata:` runs everything; `kata.run([...])` runs a command against it."""

    def __init__(self, projectors: int = 1) -> None:
        self._projectors = projectors
        self._scratch = ExitStack()
        self.data_dir = self._scratch.enter_context(scratch_directory())
        self.api = self.postgres = self.mongo = ""
        self.projectors: Sequence[str] = ()

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def up(self) -> None:
        """Start it on the data of last time."""
        ports = ("--api-port", "0", "--projector-port", "0")
        done = self._kata("up", "--detach", "--json", *ports, "--projectors", str(self._projectors))
        addresses = json.loads(done.stdout.splitlines()[-1])
        self.api, self.postgres, self.mongo = addresses["api"], addresses["postgres"], addresses["mongo"]
        self.projectors = addresses["projectors"]

    def down(self) -> None:
        """Stop it and keep the data."""
        self._kata("down")

    @property
    def environment(self) -> Mapping[str, str]:
        """What a command needs to work on this instance."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "DATABASE_URL": self.postgres, "MONGO_URL": self.mongo, "PATH": programs}

    def run(self, command: Sequence[str], *, text: str | None = None, seconds: float = 300) -> Completed:
        """Run a command in the checkout against this instance; `text` is its standard input."""
        return subprocess.run(
            command,
            cwd=CHECKOUT,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def _kata(self, verb: str, *arguments: str) -> Completed:
        command = [sys.executable, "-m", "devstack.cli", verb, "--data-dir", str(self.data_dir), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"kata {verb} ended with {done.returncode}: {done.stderr}")
        return done

    def _remove(self) -> None:
        with self._scratch:
            self.down()
