"""Stops the instance of a data directory, foreground or detached, and returns when all of it is gone."""

import os
import signal

from devstack.errors import ConfigurationError, ServerError
from devstack.layout import Layout
from devstack.leftovers import end_leftovers, wait_until_gone
from devstack.lock import is_held
from devstack.reporter import Reporter
from devstack.state import InstanceState, read_state
from devstack.waiting import wait_until

MOMENT_SECONDS = 5.0  # between taking the lock and writing the state
STOP_SECONDS = 75.0  # all the supervisor's own patience together


def bring_down(layout: Layout, reporter: Reporter) -> None:
    """Harmless when nothing runs. Raises DevstackError when something does not end."""
    if not is_held(layout.lock):
        ended = end_leftovers(layout)
        reporter.note(
            f"The instance on {layout.root} had been killed; {ended} processes it left behind were stopped."
            if ended
            else f"Nothing is running on {layout.root}."
        )
        return
    reporter.step("Stopping")
    state = wait_until(
        lambda: _living_instance(layout),
        seconds=MOMENT_SECONDS,
        failure=f"An instance is starting or ending on {layout.root}: try again in a moment.",
    )
    if state:
        _stop(layout, state)
    reporter.note("Everything is stopped.")


def _living_instance(layout: Layout) -> InstanceState | None:
    state = read_state(layout.state)
    return state if state and state.supervisor.is_alive else None


def _stop(layout: Layout, state: InstanceState) -> None:
    pid = state.supervisor.pid
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        message = f"The instance on {layout.root} (process {pid}) belongs to another user: stop it as that user."
        raise ConfigurationError(message) from None
    try:
        wait_until(lambda: not state.supervisor.is_alive, seconds=STOP_SECONDS, failure="It does not end.")
    except ServerError:
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(read_state(layout.state) or state)
    end_leftovers(layout)
