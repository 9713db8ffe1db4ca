"""What an instance runs, as its supervisor wrote it last.

Readers believe it only as far as identities confirm it.
"""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from devstack.identity import identity
from devstack.passwords import write_private


class State(StrEnum):
    """Where a process is in its life.

    RUNNING is the only good one; ORPHANED and GONE are what a reader finds.
    """

    STARTING = "starting"
    RUNNING = "running"
    NOT_READY = "not ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    ORPHANED = "orphaned"
    GONE = "gone"


@dataclass(frozen=True)
class ProcessRecord:
    """One process. `identity` is None when it had ended already as this was written."""

    role: str
    pid: int
    port: int | None
    state: State
    identity: str | None = field(repr=False)

    @classmethod
    def of(cls, role: str, pid: int, port: int | None, state: State) -> "ProcessRecord":
        """The record of a process as it is now."""
        return cls(role, pid, port, state, identity(pid))

    @property
    def is_alive(self) -> bool:
        """Whether this very process lives, not merely one of the same number."""
        return self.identity is not None and identity(self.pid) == self.identity


@dataclass(frozen=True)
class InstanceState:
    """The supervisor and its processes."""

    supervisor: ProcessRecord
    processes: tuple[ProcessRecord, ...]

    def write(self, file: Path) -> None:
        """Replace the file in one step."""
        write_private(file, json.dumps(asdict(self)) + "\n")

    @property
    def living(self) -> tuple[ProcessRecord, ...]:
        """The processes, without the supervisor, that are alive."""
        return tuple(record for record in self.processes if record.is_alive)


def read_state(file: Path) -> InstanceState | None:
    """None when there is no file: nothing runs, or what ran was stopped properly."""
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    supervisor, *processes = (
        ProcessRecord(**{**record, "state": State(record["state"])})
        for record in (content["supervisor"], *content["processes"])
    )
    return InstanceState(supervisor, tuple(processes))
