"""Ends what a killed supervisor left behind, and only that: no stranger is ever signalled.

On Linux the kernel has told the children to end already (see leash), and this merely waits for them.
"""

import os
import signal

from devstack.errors import ServerError
from devstack.layout import Layout
from devstack.state import InstanceState, ProcessRecord, read_state
from devstack.waiting import wait_until

PATIENCE_SECONDS = 15.0
STOP_SIGNALS = {"postgres": signal.SIGINT}  # a fast shutdown; SIGTERM would wait for its sessions


def end_leftovers(layout: Layout) -> int:
    """End them all and forget them; returns how many there were. Only while no supervisor runs."""
    state = read_state(layout.state)
    if state is None:
        return 0
    leftovers = state.living
    for record in leftovers:
        _signal(record, STOP_SIGNALS.get(record.role, signal.SIGTERM))
    wait_until_gone(state)
    layout.state.unlink(missing_ok=True)
    return len(leftovers)


def wait_until_gone(state: InstanceState) -> None:
    """Wait for the end of all its processes; after a while, kill them."""
    try:
        wait_until(lambda: not state.living, seconds=PATIENCE_SECONDS, failure="They do not end.")
    except ServerError:
        for record in state.living:
            _signal(record, signal.SIGKILL)
        names = ", ".join(f"{record.role} (process {record.pid})" for record in state.living)
        wait_until(lambda: not state.living, seconds=PATIENCE_SECONDS, failure=f"Cannot end {names}.")


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    if record.is_alive:
        try:
            os.kill(record.pid, number)
        except ProcessLookupError:
            return
