"""One application under supervision: it is started, found ready, and started again when it ends by itself.

The pause before a restart doubles each time, and is short again after the process has run well for a while.
"""

import signal
from collections.abc import Mapping
from pathlib import Path

from devstack.applications import Application, inherited_environment
from devstack.child import Child
from devstack.layout import CHECKOUT
from devstack.probe import is_ready, readiness
from devstack.state import ProcessRecord, State

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
WELL_AFTER_SECONDS = 30.0


class Service:
    """`now` is always the monotonic time in seconds."""

    def __init__(self, application: Application, connections: Mapping[str, str], log: Path) -> None:
        self.application = application
        self.state = State.STARTING
        self._environment = inherited_environment({**connections, **application.environment})
        self._log = log
        self._child: Child | None = None
        self._started_at = 0.0
        self._restart_at = 0.0
        self._failures = 0

    @property
    def child(self) -> Child:
        """Its latest process, running or ended."""
        if self._child is None:
            message = f"{self.application.name} was never started"
            raise RuntimeError(message)
        return self._child

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.application.port}"

    @property
    def record(self) -> ProcessRecord:
        """What the state file says about it."""
        return ProcessRecord.of(self.application.role, self.child.pid, self.application.port, self.state)

    def start(self, now: float) -> None:
        """Start the process; look() finds out when it is ready."""
        self._child = Child.start(
            self.application.name,
            self.application.command,
            log=self._log,
            environment=self._environment,
            death_signal=signal.SIGKILL,  # its stores are going down as well: it could only fail to drain
            directory=CHECKOUT,
        )
        self.state = State.STARTING
        self._started_at = now

    def look(self, now: float) -> str | None:
        """Do what is due and return what there is to tell: it ended, or it is ready again."""
        match self.state:
            case State.RESTARTING:
                if now >= self._restart_at:
                    self.start(now)
            case State.STARTING if self.child.exit_code is None:
                if is_ready(self.application.port):
                    self.state = State.RUNNING
                    return f"{self.application.name} is ready (process {self.child.pid})."
            case _ if self.child.exit_code is not None:
                return self._plan_restart(now)
        return None

    def not_ready(self, seconds: float) -> str:
        """Return what there is to tell when it was not ready within so many seconds."""
        name, port = self.application.name, self.application.port
        return f"{name} was not ready after {seconds:.0f} s: {readiness(port)}; its log is {self.child.log}."

    def _plan_restart(self, now: float) -> str:
        if now - self._started_at >= WELL_AFTER_SECONDS:
            self._failures = 0
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self._failures)
        self._failures += 1
        self._restart_at = now + pause
        self.state = State.RESTARTING
        return f"{self.ending} Starting it again in {pause:g} s."

    @property
    def ending(self) -> str:
        """The sentence that says how its process ended."""
        return f"{self.child.ending}; its log is {self.child.log}."
