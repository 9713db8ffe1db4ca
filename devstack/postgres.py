"""An embedded PostgreSQL in a data directory of its own: `Postgres.start(directory)`, `.dsn`, `.stop()`.

The directory keeps everything that the next start needs: the cluster, the port and the superuser's password.
A cluster appears under its name only when initdb has finished, so one that was killed half-way is begun anew.
"""

import signal
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from devstack.account import Account, unprivileged_account
from devstack.binaries import postgres_programs
from devstack.child import Child
from devstack.cluster import initialise, remove_stale_pid_file, says_ready
from devstack.complaints import remedy
from devstack.environment import server_environment
from devstack.errors import ConfigurationError, ServerError
from devstack.passwords import kept_password
from devstack.placement import make_enterable, reachable_directory, reachable_programs
from devstack.ports import HOST, choose_port, keep_port
from devstack.waiting import wait_until

USER = "kata"
START_SECONDS = 60.0
STOPPING = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))  # fast, then immediate
OLD_SESSIONS = "pre-existing shared memory block"
OLD_SESSIONS_SECONDS = 15.0
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}


def dsn(port: int, password: str, database: str, *, user: str = USER) -> str:
    """The way to a database of the server on this port, the superuser's unless said otherwise."""
    return f"postgresql://{user}:{password}@{HOST}:{port}/{database}"


class OldSessionsError(ServerError):
    """Sessions of a server that crashed still use its shared memory."""


class Postgres:
    """A running server. stop() may be followed by restart(), or by another start() on the same directory."""

    def __init__(  # noqa: PLR0913 - start() alone calls it, with what it has found
        self,
        programs: Path,
        cluster: Path,
        account: Account | None,
        *,
        port: int,
        password: str,
        settings: Mapping[str, str],
        log: Path,
    ) -> None:
        self.port = port
        self.password = password
        self.cluster = cluster
        self.log = log
        self._programs = programs
        self._account = account
        self._settings = {**SETTINGS, **settings, "port": str(port)}
        self._child: Child | None = None

    @classmethod
    def start(
        cls,
        data_dir: Path,
        port: int = 0,
        *,
        settings: Mapping[str, str] | None = None,
        programs: Path | None = None,
        log: Path | None = None,
    ) -> Self:
        """Start the server of this directory and wait until it takes connections; make it when it is new.

        port 0 means the one of last time or a free one. settings go to the server as `-c name=value`. programs are
        the directory of another PostgreSQL than the embedded one. The log is appended to; it is `postgres.log` in the
        directory unless said otherwise. Raises
        ConfigurationError, ServerError. Call it from the main thread. Started by root, it wants a directory
        that `nobody` can enter: see placement.py for what happens otherwise.
        """
        account = unprivileged_account()
        programs = reachable_programs(programs or postgres_programs(), account)
        make_enterable(data_dir)
        log = log or data_dir / "postgres.log"
        cluster = reachable_directory(data_dir, account) / "cluster"
        password = kept_password(data_dir / "password")
        if not cluster.exists():
            initialise(programs, cluster, account, user=USER, password=password, log=log)
        remove_stale_pid_file(cluster)
        server = cls(
            programs,
            cluster,
            account,
            port=choose_port(data_dir / "port", port),
            password=password,
            settings=settings or {},
            log=log,
        )
        server.restart()
        keep_port(data_dir / "port", server.port)
        return server

    def restart(self) -> None:
        """Stop it when it runs, start it again on the same port, wait until it takes connections."""
        self.stop()
        # After a crash, busy sessions of the old server may live on for a moment; beside them no new one starts.
        attempts = Retrying(
            retry=retry_if_exception_type(OldSessionsError),
            wait=wait_fixed(0.1),
            stop=stop_after_delay(OLD_SESSIONS_SECONDS),
            reraise=True,
        )
        attempts(self._start_once)

    def _start_once(self) -> None:
        remove_stale_pid_file(self.cluster)
        settings = [argument for name, value in self._settings.items() for argument in ("-c", f"{name}={value}")]
        self._child = Child.start(
            "PostgreSQL",
            [str(self._programs / "postgres"), "-D", str(self.cluster), *settings],
            log=self.log,
            environment=server_environment(),
            death_signal=signal.SIGINT,
            account=self._account,
        )
        try:
            wait_until(
                self._is_ready,
                seconds=START_SECONDS,
                failure=f"PostgreSQL was not ready after {START_SECONDS:.0f} s: see {self.log}.",
            )
        except BaseException:
            self.kill()
            raise

    def _is_ready(self) -> bool:
        child = self.child
        if child.exit_code is not None:
            written = child.written()
            if advice := remedy("PostgreSQL", written):
                raise ConfigurationError(advice)
            message = f"{child.ending} while starting: {child.last_words()} ({self.log})."
            raise OldSessionsError(message) if OLD_SESSIONS in written else ServerError(message)
        return says_ready(self.cluster, child.pid)

    @property
    def child(self) -> Child:
        """The server's process, running or ended."""
        if self._child is None:
            message = "PostgreSQL was never started"
            raise RuntimeError(message)
        return self._child

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self.child.pid

    @property
    def dsn(self) -> str:
        """The superuser's way to the database `postgres`, password included."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """The superuser's way to a database."""
        return dsn(self.port, self.password, database)

    def stop(self) -> None:
        """A fast shutdown: sessions are broken off, what was committed is kept.

        Harmless when it is stopped.
        """
        if self._child:
            self._child.stop(*STOPPING)

    def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        self.child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
