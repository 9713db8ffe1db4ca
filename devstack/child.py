"""One child process: on a leash, in a session of its own, its output in a log file.

A session of its own, because Ctrl-C on the terminal reaches the whole foreground group and would stop the
databases under the feet of those that still have to drain. Whoever starts a child waits for its end, so no
zombie is left.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from devstack import leash
from devstack.account import Account

LAST_LINES = 3
MOST_READ_BYTES = 64 * 1024


class Child:
    """A running process. `name` is how messages call it; `log` is where its output goes."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, log_start: int) -> None:
        self.name = name
        self.log = log
        self._log_start = log_start
        self._process = process
        self._requested: signal.Signals | None = None

    @classmethod
    def start(  # noqa: PLR0913 - what to run, and all that a process is given
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        death_signal: signal.Signals,
        account: Account | None = None,
        directory: Path | None = None,
    ) -> "Child":
        """Start the command; its output is appended to the log. Only from a main thread (see leash)."""
        if threading.current_thread() is not threading.main_thread():
            message = f"{name} must be started from the main thread: it would die with any other thread"
            raise RuntimeError(message)
        uid, gid = (account.uid, account.gid) if account else (-1, -1)
        on_leash = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(int(death_signal))]
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            log_start = output.tell()
            process = subprocess.Popen(
                [*on_leash, str(uid), str(gid), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
            )
        return cls(name, process, log, log_start)

    @property
    def pid(self) -> int:
        """The process id of the command itself."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -9 after SIGKILL, as subprocess says it."""
        return self._process.poll()

    def stop(self, *escalation: tuple[signal.Signals, float]) -> int:
        """Send each signal and wait its seconds, then SIGKILL; returns the exit code.

        Harmless when it ended.
        """
        for number, seconds in escalation:
            self.request_stop(number)
            try:
                return self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        return self.kill()

    def request_stop(self, number: signal.Signals) -> None:
        """Send a signal and do not wait, so that several can stop at the same time.

        Never the same one twice: many programs take the second for impatience.
        """
        if self.exit_code is None and number is not self._requested:
            self._requested = number
            self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end, however long that takes; returns the exit code."""
        return self._process.wait()

    def kill(self) -> int:
        """SIGKILL to the process and whatever it started."""
        if self.exit_code is None:
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()

    @property
    def ending(self) -> str:
        """How it ended, as the beginning of a sentence."""
        code = self.exit_code
        if code is not None and code < 0:
            return f"{self.name} (process {self.pid}) was killed by {signal.Signals(-code).name}"
        return f"{self.name} (process {self.pid}) ended with exit code {code}"

    def written(self) -> str:
        """What it wrote since it was started; the last part of it when that is much."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - MOST_READ_BYTES))
            return log.read().decode(errors="replace")

    def last_words(self) -> str:
        """The last lines it wrote, in one line: what a message quotes when the process died."""
        lines = [line.strip() for line in self.written().splitlines() if line.strip()]
        return " / ".join(lines[-LAST_LINES:]) or "it wrote nothing"
