"""What a storm hits: processes that can be killed, started again, stopped and continued.

To be started from the main thread: whatever this process leaves behind ends with it.
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from devstack.applications import Application, inherited_environment
from devstack.child import Child
from devstack.layout import CHECKOUT
from devstack.postgres import Postgres
from devstack.probe import is_ready
from tests.fixtures.replica_sets import Member

API: Final = "API"
PROJECTOR: Final = "projector"
POSTGRES: Final = "PostgreSQL"
MONGOD: Final = "mongod"


class Victim:
    """One process, with the processes it has started. At most one fault has it at a time."""

    def __init__(self, role: str, number: int = 0) -> None:
        self.role = role
        self.name = f"{role} {number}" if number else role
        self.is_hit = False

    def __repr__(self) -> str:
        return self.name

    @property
    def pid(self) -> int:
        """The process id."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it again on what it has left."""
        raise NotImplementedError

    def reap(self) -> None:
        """Wait for the end of a process that was killed."""
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL, to all of its processes."""
        for process in self._family():
            process.kill()
        self.reap()

    def stop(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        # The parent first: what is stopped starts no others.
        psutil.Process(self.pid).suspend()
        for process in self._family():
            process.suspend()

    def go_on(self) -> None:
        """SIGCONT."""
        for process in reversed(self._family()):
            process.resume()

    def _family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.pid)
        return [parent, *parent.children(recursive=True)]


class ServiceVictim(Victim):
    """An API process or a projector."""

    def __init__(
        self, role: str, number: int, application: Application, settings: Mapping[str, str], log: Path
    ) -> None:
        super().__init__(role, number)
        self.url = f"http://127.0.0.1:{application.port}"
        self.log = log
        self._application = application
        self._environment = inherited_environment({**settings, **application.environment, "LOG_FORMAT": "json"})
        self.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.child.pid

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone, by whatever."""
        return self.child.exit_code is not None

    def start(self) -> None:
        """Start a new process; it is ready when is_ready says so."""
        self.child = Child.start(
            self.name,
            self._application.command,
            log=self.log,
            environment=self._environment,
            death_signal=signal.SIGKILL,
            directory=CHECKOUT,
        )

    def reap(self) -> None:
        """Wait for its end."""
        self.child.wait()

    def end(self) -> None:
        """It is not needed any more."""
        self.child.kill()

    def is_ready(self) -> bool:
        """Whether it says that it can serve."""
        return is_ready(self._application.port)


class PostgresVictim(Victim):
    """The PostgreSQL server: the postmaster and all of its sessions at once, as when the machine is reset."""

    def __init__(self, server: Postgres) -> None:
        super().__init__(POSTGRES)
        self.server = server

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return self.server.pid

    def start(self) -> None:
        """Recover, and return when it takes connections."""
        self.server.restart()

    def reap(self) -> None:
        """Wait for the end of the postmaster."""
        self.server.child.wait()


class MongodVictim(Victim):
    """One member of the replica set."""

    def __init__(self, member: Member) -> None:
        super().__init__(MONGOD, member.number + 1)
        self.member = member

    @property
    def pid(self) -> int:
        """The process id."""
        return self.member.pid

    def start(self) -> None:
        """Start it on its data and return when it listens."""
        self.member.start()

    def reap(self) -> None:
        """Wait for its end."""
        self.member.kill()

    def stop(self) -> None:
        """SIGSTOP."""
        super().stop()
        self.member.is_paused = True

    def go_on(self) -> None:
        """SIGCONT."""
        self.member.resume()
