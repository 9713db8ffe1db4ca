"""The data directory: what lies where.

It is made for one instance, and nothing outside it is needed for a restart.

Root makes it enterable (0711) for the user that PostgreSQL runs as; passwords and logs in it stay readable to
their owner alone. Anybody else keeps it to himself.
"""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import ConfigurationError

CHECKOUT = Path(__file__).resolve().parent.parent
DEFAULT_DATA_DIR = CHECKOUT / ".kata"


@dataclass(frozen=True)
class Layout:
    """Paths below one data directory."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.root / "kata.lock"

    @property
    def state(self) -> Path:
        """What the supervisor runs at the moment."""
        return self.root / "state.json"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's cluster, port and password."""
        return self.root / "postgres"

    @property
    def mongod(self) -> Path:
        """The database files of mongod, its port, password and key."""
        return self.root / "mongod"

    @property
    def roles(self) -> Path:
        """The passwords of the roles that the processes work under, a file each."""
        return self.root / "roles"

    @property
    def prepared(self) -> Path:
        """What the database was migrated to, once its roles were made."""
        return self.root / "prepared"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.root / "logs"

    def log(self, name: str) -> Path:
        """The log file of the process with this name."""
        return self.logs / f"{name}.log"

    @property
    def supervisor_log(self) -> Path:
        """The log of a detached supervisor."""
        return self.log("kata")

    def prepare(self) -> None:
        """Make the directories. Raises ConfigurationError when the place is not ours to use."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_someone_elses()
            is_ours = self.lock.exists() or not any(self.root.iterdir())
            if os.geteuid() == 0 and is_ours:
                self.root.chmod(0o711)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            message = f"{self.root} cannot be used ({error.strerror}): choose another place with --data-dir."
            raise ConfigurationError(message) from None

    def start_logs_afresh(self) -> None:
        """Keep each log of the last run as `.log.old`, so that logs do not grow for ever across restarts."""
        for log in self.logs.glob("*.log"):
            if log != self.supervisor_log:
                log.replace(log.with_name(log.name + ".old"))
        if self.supervisor_log.exists():  # a detached supervisor has it open, so it cannot be renamed
            os.truncate(self.supervisor_log, 0)

    def _refuse_someone_elses(self) -> None:
        owner = self.lock.stat().st_uid if self.lock.exists() else os.geteuid()
        if owner != os.geteuid():
            try:
                name = pwd.getpwuid(owner).pw_name
            except KeyError:
                name = str(owner)
            message = (
                f"The data in {self.root} belong to the user {name}:"
                f" run kata as {name}, or choose another place with --data-dir."
            )
            raise ConfigurationError(message)
