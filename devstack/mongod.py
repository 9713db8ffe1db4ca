"""An embedded mongod in a data directory of its own, always the primary of a one-node replica set.

The directory keeps everything that the next start needs: the database files, the port, the password and the
key file.
"""

import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.binaries import mongod_program
from devstack.child import Child
from devstack.complaints import remedy, taken_port
from devstack.environment import server_environment
from devstack.errors import ConfigurationError, ServerError
from devstack.passwords import kept_password, write_private
from devstack.ports import HOST, accepts_connections, choose_port, is_free, keep_port
from devstack.replica_set import NAME, Login, believes_in_another_port, establish, readdress
from devstack.waiting import wait_until

USER = "kata"
START_SECONDS = 60.0
STOPPING = ((signal.SIGTERM, 20.0),)
DATA_IN_USE = 100  # mongod's exit code
SMALL = (
    "--wiredTigerCacheSizeGB", "0.25",
    "--wiredTigerEngineConfigString", "log=(prealloc=false)",
    "--oplogSize", "64",
    "--setParameter", "diagnosticDataCollectionEnabled=false",
)  # fmt: skip


def uri(port: int, password: str | None, *, user: str = USER) -> str:
    """The way in to the server on this port; without a password when it was made without."""
    if password is None:
        return f"mongodb://{HOST}:{port}/?replicaSet={NAME}"
    return f"mongodb://{user}:{password}@{HOST}:{port}/?replicaSet={NAME}&authSource=admin"


def nothing() -> None:
    """The check of those who have nothing to check."""


class Mongod:
    """A running server. stop() may be followed by restart(), or by another start() on the same directory."""

    def __init__(
        self,
        program: Path,
        data_dir: Path,
        *,
        port: int,
        login: Login | None,
        options: Sequence[str],
        log: Path,
    ) -> None:
        self.port = port
        self.log = log
        self.data_dir = data_dir
        self._program = program
        self._login = login
        self._options = options
        self._child: Child | None = None

    @classmethod
    def start(
        cls,
        data_dir: Path,
        port: int = 0,
        *,
        auth: bool = False,
        parameters: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> Self:
        """Start the server of this directory and wait until it is primary; make the data when there are none.

        port 0 means the one of last time or a free one. With auth there is one user, who may do everything; a
        directory keeps to the choice it was made with. parameters go to the server as `--setParameter
        name=value`. The log is appended to; it is `mongod.log` in the directory unless said otherwise. Raises
        ConfigurationError, ServerError. Call it from the main thread.
        """
        server = cls.launch(data_dir, port, auth=auth, parameters=parameters, log=log)
        server.wait_ready()
        return server

    @classmethod
    def launch(
        cls,
        data_dir: Path,
        port: int = 0,
        *,
        auth: bool = False,
        parameters: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        log: Path | None = None,
    ) -> Self:
        """The first half of start(): it returns at once, so that other things can start meanwhile.

        options are words of the server's command line.
        """
        program = mongod_program()
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (data_dir / "db").mkdir(mode=0o700, exist_ok=True)
        login = Login(USER, kept_password(data_dir / "password")) if auth else None
        key_file = data_dir / "keyfile"
        if auth and not key_file.exists():
            write_private(key_file, secrets.token_urlsafe(96).replace("-", "+").replace("_", "/"))
        server = cls(
            program,
            data_dir,
            port=choose_port(data_dir / "port", port),
            login=login,
            options=[*(f"--setParameter={name}={value}" for name, value in (parameters or {}).items()), *options],
            log=log or data_dir / "mongod.log",
        )
        if believes_in_another_port(server.port, server.configured_port):
            server._execute(as_replica_set=False)
            server.wait_listening()
            readdress(server.port, key_file if auth else None, server.configured_port)
            server.stop()
        server._execute()
        return server

    def _execute(self, *, as_replica_set: bool = True) -> None:
        if not is_free(self.port):  # else whoever listens there would be taken for the server
            raise ConfigurationError(taken_port("mongod"))
        replication = ["--replSet", NAME] if as_replica_set else []
        authentication = ["--auth", "--keyFile", str(self.data_dir / "keyfile")] if self._login else []
        self._child = Child.start(
            "mongod",
            [
                str(self._program), "--quiet", "--nounixsocket", "--bind_ip", HOST, "--port", str(self.port),
                "--dbpath", str(self.data_dir / "db"), *replication, *authentication, *SMALL, *self._options,
            ],
            log=self.log,
            environment=server_environment(),
            death_signal=signal.SIGTERM,
        )  # fmt: skip

    def wait_ready(self, check: Callable[[], object] = nothing) -> None:
        """The second half of start(). `check` is called between polls; it may raise to give up."""

        def still_starting() -> None:
            check()
            self._raise_when_ended()

        self.wait_listening(check)
        try:
            establish(self.port, self._login, self.configured_port, still_starting)
        except BaseException:
            self.kill()
            raise

    def wait_listening(self, check: Callable[[], object] = nothing) -> None:
        """Wait until it accepts connections: all there is to wait for when somebody else makes the replica set."""

        def listens() -> bool:
            check()
            self._raise_when_ended()
            return accepts_connections(self.port)

        failure = f"mongod was not ready after {START_SECONDS:.0f} s: see {self.log}."
        try:
            wait_until(listens, seconds=START_SECONDS, failure=failure)
        except BaseException:
            self.kill()
            raise
        keep_port(self.data_dir / "port", self.port)

    def _raise_when_ended(self) -> None:
        code = self.child.exit_code
        if code is None:
            return
        if code == DATA_IN_USE:
            message = f"mongod is already running on {self.data_dir}: stop it first."
            raise ConfigurationError(message)
        if advice := remedy("mongod", self.child.written()):
            raise ConfigurationError(advice)
        message = f"{self.child.ending} while starting: {self.child.last_words()} ({self.log})."
        raise ServerError(message)

    def restart(self) -> None:
        """Stop it when it runs, start it again on the same port, wait until it is primary."""
        self.stop()
        self._execute()
        self.wait_ready()

    @property
    def child(self) -> Child:
        """The server's process, running or ended."""
        if self._child is None:
            message = "mongod was never started"
            raise RuntimeError(message)
        return self._child

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self.child.pid

    @property
    def configured_port(self) -> Path:
        """The file that says which port the replica set believes in."""
        return self.data_dir / "replica-set-port"

    @property
    def uri(self) -> str:
        """The way in for any client, password included."""
        return uri(self.port, self._login.password if self._login else None)

    def request_stop(self) -> None:
        """Begin a clean shutdown; stop() waits for its end."""
        if self._child:
            self._child.request_stop(signal.SIGTERM)

    def stop(self) -> None:
        """A clean shutdown. Harmless when it is stopped."""
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
