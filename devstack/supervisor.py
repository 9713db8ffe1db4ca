"""The life of one instance: take the lock, start everything, look after it, stop everything.

Whatever happens on the way, the end is the same: all children have ended before the lock is released. Only
SIGKILL skips that; then the kernel ends the children (see leash).
"""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from devstack.applications import choose_applications, require_checkout
from devstack.layout import Layout
from devstack.leash import die_with_parent
from devstack.leftovers import end_leftovers
from devstack.lock import held
from devstack.reporter import Reporter
from devstack.stack import Stack
from devstack.state import InstanceState, ProcessRecord, State
from devstack.stop_signal import StopSignal

GOOD, INTERRUPTED = 0, 130


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line. Port 0 means any free one."""

    api_port: int
    projector_port: int
    projectors: int


def supervise(layout: Layout, wishes: Wishes, reporter: Reporter) -> int:
    """Run an instance until it is asked to stop; returns the exit code.

    Raises DevstackError when it cannot go on.
    """
    require_checkout()
    layout.prepare()
    _end_with_make()
    with held(layout.lock), StopSignal() as stop_signal:
        end_leftovers(layout)
        supervisor = ProcessRecord.of("supervisor", os.getpid(), None, State.STARTING)
        InstanceState(supervisor, ()).write(layout.state)
        try:
            applications = choose_applications(wishes.api_port, wishes.projector_port, wishes.projectors)
            layout.start_logs_afresh()
            stack = Stack(layout, reporter, supervisor)
            try:
                reporter.ready(stack.start(applications, stop_signal.check))
                while stop_signal.received is None:
                    stop_signal.wait(stack.look())
            finally:
                try:
                    reporter.step("Stopping")
                finally:
                    stack.stop()
        finally:
            layout.state.unlink()
        reporter.note("Everything is stopped.")
        return INTERRUPTED if stop_signal.received is signal.SIGINT else GOOD


def _end_with_make() -> None:
    """`make run` is one thing to its user: when make is killed, this must not stay behind.

    No other parent counts: shells end while what they started is meant to go on.
    """
    parent = os.getppid()
    try:
        name = Path(f"/proc/{parent}/comm").read_text().strip()
    except OSError:
        return
    if name in {"make", "gmake"}:
        die_with_parent(parent, signal.SIGTERM)
