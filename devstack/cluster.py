"""PostgreSQL's files: making a cluster with initdb, and reading its postmaster.pid.

postmaster.pid is believed only when the process it names really is this cluster's server: after a SIGKILL its
number may long belong to somebody else, and PostgreSQL itself would then refuse to start.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from devstack.account import Account
from devstack.child import Child
from devstack.complaints import remedy
from devstack.environment import server_environment
from devstack.errors import ConfigurationError, ServerError
from devstack.passwords import write_private

STATUS_LINE = 7  # LOCK_FILE_LINE_PM_STATUS of PostgreSQL's src/include/utils/pidfile.h, counted from 0
TAKES_CONNECTIONS = {"ready", "standby"}  # a standby takes those that only read


def initialise(
    programs: Path, cluster: Path, account: Account | None, *, user: str, password: str, log: Path
) -> None:  # fmt: skip
    """Make a cluster whose only way in is the password of its superuser."""
    unfinished = cluster.with_name(cluster.name + ".unfinished")
    password_file = cluster.with_name(cluster.name + ".password")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    write_private(password_file, password + "\n")
    if account:
        for path in (unfinished, password_file):
            os.chown(path, account.uid, account.gid)
    command = [
        str(programs / "initdb"),
        f"--pgdata={unfinished}",
        f"--username={user}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        *_locale(programs),
        "--no-sync",
        "--no-instructions",
    ]
    try:
        initdb = Child.start(
            "initdb", command, log=log, environment=server_environment(), death_signal=signal.SIGKILL, account=account
        )
        if initdb.wait() != 0:
            message = remedy("PostgreSQL", initdb.written()) or (
                f"PostgreSQL's initdb failed: {initdb.last_words()} ({log})."
            )
            raise ServerError(message)
    finally:
        password_file.unlink()
    unfinished.rename(cluster)


def _locale(programs: Path) -> list[str]:
    """The same order of texts on every machine, by PostgreSQL itself from 17 on."""
    said = subprocess.run([str(programs / "initdb"), "--version"], capture_output=True, text=True, check=True).stdout
    major = int(said.split()[2].partition(".")[0])
    return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else ["--locale=C.UTF-8"]


def says_ready(cluster: Path, pid: int) -> bool:
    """Whether the server with this process id has written that it takes connections."""
    lines = _pid_file_lines(cluster)
    return len(lines) > STATUS_LINE and lines[0].strip() == str(pid) and lines[STATUS_LINE].strip() in TAKES_CONNECTIONS


def remove_stale_pid_file(cluster: Path) -> None:
    """Remove what a killed server left. Raises ConfigurationError when that server is alive."""
    lines = _pid_file_lines(cluster)
    if not lines:
        return
    pid = int(lines[0])
    if _serves(pid, cluster):
        message = f"PostgreSQL (process {pid}) is already running on {cluster}: stop it first."
        raise ConfigurationError(message)
    (cluster / "postmaster.pid").unlink()


def _pid_file_lines(cluster: Path) -> list[str]:
    try:
        return (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _serves(pid: int, cluster: Path) -> bool:
    """A server's working directory is its cluster; where that cannot be read, its command line names it."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == cluster.resolve()
    except OSError:
        listing = subprocess.run(
            ["/bin/ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return str(cluster) in listing.stdout
