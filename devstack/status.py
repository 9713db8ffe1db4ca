"""What runs on a data directory, found out now: the lock, identities and servers are asked."""

from dataclasses import dataclass, replace

from devstack.layout import Layout
from devstack.lock import is_held
from devstack.ports import accepts_connections
from devstack.probe import is_ready
from devstack.state import InstanceState, ProcessRecord, State, read_state

HTTP_ROLES = frozenset({"api", "projector"})


@dataclass(frozen=True)
class Finding:
    """One process.

    There is no pid when it has none: a dead process's number may be somebody else's by now.
    """

    role: str
    pid: int | None
    port: int | None
    state: State


@dataclass(frozen=True)
class Status:
    """The supervisor's pid, when it lives, and its processes."""

    supervisor: int | None
    processes: tuple[Finding, ...]
    is_complete: bool

    @property
    def is_good(self) -> bool:
        """Whether everything that belongs to an instance runs."""
        return self.is_complete and all(finding.state is State.RUNNING for finding in self.processes)

    def as_json(self) -> dict[str, object]:
        """The object that `kata status --json` prints last."""
        return {"processes": [vars(finding) for finding in self.processes], "supervisor": self.supervisor}


def find_out(layout: Layout) -> Status:
    """Ask everything that can be asked; changes nothing."""
    if is_held(layout.lock):
        return _of_living(read_state(layout.state))
    state = read_state(layout.state)
    orphans = state.living if state else ()
    return Status(None, tuple(_finding(replace(record, state=State.ORPHANED)) for record in orphans), is_complete=False)


def _of_living(state: InstanceState | None) -> Status:
    if state is None or not state.supervisor.is_alive:  # it has taken the lock and not yet written what it runs
        return Status(None, (), is_complete=False)
    findings = tuple(_finding(_as_found(record)) for record in state.processes)
    return Status(state.supervisor.pid, findings, is_complete=state.supervisor.state is State.RUNNING)


def _as_found(record: ProcessRecord) -> ProcessRecord:
    if not record.is_alive:
        return record if record.state is State.RESTARTING else replace(record, state=State.GONE)
    if record.state is not State.RUNNING or record.port is None:
        return record
    answers = is_ready if record.role in HTTP_ROLES else accepts_connections
    return record if answers(record.port) else replace(record, state=State.NOT_READY)


def _finding(record: ProcessRecord) -> Finding:
    return Finding(record.role, record.pid if record.is_alive else None, record.port, record.state)
