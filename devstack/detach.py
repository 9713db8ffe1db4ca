"""Runs an instance in the background and returns when it is ready, with what it reported on the way.

The supervisor is forked off into a session of its own before there is any thread. A pipe carries its reports,
one JSON object a line: {"step"}, {"note"}, {"ready"} or {"failed", "code"}. When nobody listens any more
before it is ready, it gives up: an instance that its starter never heard of would stay behind.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import IO

from devstack.addresses import Addresses
from devstack.errors import DevstackError, InterruptedStartError, ServerError
from devstack.layout import Layout
from devstack.reporter import Reporter


class DetachedError(DevstackError):
    """What the supervisor in the background failed with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PipeReporter:
    """Reports through the pipe until it is ready, from then on into the log."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe: IO[str] | None = pipe

    def step(self, text: str) -> None:
        """Pass it on."""
        self.send({"step": text})

    def note(self, text: str) -> None:
        """Pass it on; it stays in the log, too."""
        print(text, flush=True)  # noqa: T201 - stdout is the log
        self.send({"note": text})

    def ready(self, addresses: Addresses) -> None:
        """Pass it on; it is the last that goes through the pipe."""
        self.send({"ready": addresses.as_json()})
        if self._pipe:
            self._pipe.close()
            self._pipe = None

    def send(self, report: dict[str, object]) -> None:
        """Write one line. Raises InterruptedStartError when nobody reads it."""
        if self._pipe is None:
            return
        try:
            self._pipe.write(json.dumps(report) + "\n")
            self._pipe.flush()
        except BrokenPipeError:
            self._pipe = None
            message = "Whoever asked for this instance has gone before it was ready."
            raise InterruptedStartError(message) from None


def start_detached(layout: Layout, run: Callable[[Reporter], int], reporter: Reporter) -> int:
    """Fork a process that does run(), and return 0 when it is ready.

    Raises DevstackError when it fails before.
    """
    layout.prepare()
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        exit_code = ServerError.exit_code
        try:
            os.close(read_end)
            exit_code = _in_background(layout, run, PipeReporter(os.fdopen(write_end, "w")))
        except BaseException:  # noqa: BLE001 - nothing may get past _exit: above is the other process's code
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit_code)
    os.close(write_end)
    try:
        with os.fdopen(read_end) as reports:
            for line in reports:
                if _relay(json.loads(line), reporter):
                    return 0
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    message = f"The instance ended before it was ready: see {layout.supervisor_log}."
    raise ServerError(message)


def _relay(report: dict[str, object], reporter: Reporter) -> bool:
    match report:
        case {"step": str(text)}:
            reporter.step(text)
        case {"note": str(text)}:
            reporter.note(text)
        case {"failed": str(text), "code": int(code)}:
            raise DetachedError(text, code)
        case {"ready": dict(addresses)}:
            reporter.ready(Addresses(**{**addresses, "projectors": tuple(addresses["projectors"])}))
            return True
    return False


def _in_background(layout: Layout, run: Callable[[Reporter], int], reporter: PipeReporter) -> int:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(layout.supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in enumerate((nothing, log, log)):
        os.dup2(source, target)
    try:
        return run(reporter)
    except DevstackError as error:
        print(error, flush=True)  # noqa: T201 - stdout is the log
        reporter.send({"failed": str(error), "code": error.exit_code})
        return error.exit_code
