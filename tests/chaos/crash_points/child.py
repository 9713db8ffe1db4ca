"""The processes of a case, forked from one that has imported everything and opened nothing: so each costs little.

What they tell arrives whatever happens to them next: it is in the pipe.
"""

import gc
import io
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final

from projector import claims, connection, copying, handshake, relay, replay, replay_run, swap
from projector.settings import ProjectorSettings
from shared import postgres
from shared.logs import configure_logs
from shared.mongo import create_client
from tests.chaos.crash_points import control_path, effects
from tests.chaos.crash_points.actor import Actor, Notes
from tests.chaos.crash_points.effects import Moment, Watcher
from tests.chaos.crash_points.faults import CUTS, Fault, Injection, Point, Recorder
from tests.chaos.crash_points.paths import PATHS
from tests.chaos.crash_points.roles import ROLES, Role

KNOWN: Final = {path.name: path for path in (*PATHS.values(), *control_path.PATHS)}


@dataclass(frozen=True)
class Job:
    """What a process is to do. `ids` are those of the shop, `notes` what was noted before."""

    path: str
    role: Role
    name: str
    environment: Mapping[str, str]
    ids: Mapping[str, int]
    notes: Notes = field(default_factory=dict)
    point: Point | None = None
    fault: Fault | None = None
    is_impatient: bool = False


class Child:
    """A process that does one job after the other."""

    _CONTEXT: Final = multiprocessing.get_context("forkserver")
    _STARTING: Final = threading.Lock()

    def __init__(self) -> None:
        self._pipe, theirs = self._CONTEXT.Pipe()
        with self._STARTING:
            self._CONTEXT.set_forkserver_preload([__name__])
            self._process = self._CONTEXT.Process(target=work, args=(theirs,), daemon=True)
            self._process.start()
        theirs.close()
        self.heard: dict[str, list[Any]] = {}

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid
        return self._process.pid

    def begin(self, job: Job) -> None:
        """Have it begin a job."""
        self.heard = {}
        self._pipe.send(job)

    def go_on(self) -> None:
        """Tell it that the cut is made for which it waits."""
        self._pipe.send(None)

    def listen(self, until: str = "done", seconds: float = 60) -> bool:
        """Hear what it tells until it says `until`. Returns false when it is dead, or done without having said so."""
        deadline = time.monotonic() + seconds
        while self._pipe.poll(max(0.0, deadline - time.monotonic())):
            try:
                what, value = self._pipe.recv()
            except (EOFError, ConnectionResetError):
                self._process.join()
                return False
            self.heard.setdefault(what, []).append(value)
            if what in {until, "done"}:
                return what == until
        raise AssertionError(f"not within {seconds} s: {until!r}; heard: {self.heard}")

    def has(self, what: str) -> bool:
        """Return whether it has told this by now."""
        while what not in self.heard and self._pipe.poll():
            said, value = self._pipe.recv()
            self.heard.setdefault(said, []).append(value)
        return what in self.heard

    def last(self, what: str, default: Any = None) -> Any:
        """Return what it told last of this."""
        return self.heard.get(what, [default])[-1]

    @property
    def delivered(self) -> list[int]:
        """The ids of the messages it has delivered in this job, each as often as it did."""
        return [message_id for batch in self.heard.get("delivered", []) for message_id in batch]

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


class _Switch:
    """The watcher of a process: that of the present job."""

    def __init__(self) -> None:
        self.watcher: Watcher = lambda *_: None

    def __call__(self, moment: Moment, effect: str) -> None:
        self.watcher(moment, effect)


def work(pipe: Connection) -> None:
    """Do jobs in this process until it is ended."""
    sys.stdout = sys.stderr = io.StringIO()
    configure_logs("error", "json", "crash points")
    gc.freeze()
    make_small()
    switch = _Switch()
    effects.install(switch)
    with ExitStack() as stack:
        clients: dict[str, Any] = {}
        while True:
            job: Job = pipe.recv()
            os.environ |= job.environment
            settings = ProjectorSettings.load()
            if (url := job.environment["MONGO_URL"]) not in clients:
                clients[url] = stack.enter_context(create_client(settings, "crash points"))
            _do(job, settings, clients[url], switch, pipe)
            pipe.send(("done", None))


def _do(job: Job, settings: ProjectorSettings, client: Any, switch: _Switch, pipe: Connection) -> None:
    def arrive() -> None:
        pipe.send(("arrived", None))
        if job.fault in CUTS:
            pipe.recv()

    if job.is_impatient:
        make_impatient()
    recorder = Recorder()
    switch.watcher = Injection(job.point, job.fault, arrive) if job.point and job.fault else recorder
    with Actor(job.name, settings, client, lambda what, value: pipe.send((what, value)), dict(job.notes)) as actor:
        try:
            ROLES[job.role](KNOWN[job.path], actor, dict(job.ids))
        except BaseException as error:  # noqa: BLE001 - whatever it was, the test is told
            pipe.send(("raised", (type(error).__name__, "".join(traceback.format_exception(error)))))
        else:
            pipe.send(("ended", None))
    pipe.send(("effects", recorder.effects))
    # A process that ends closes what it forgot, and this one goes on.
    gc.collect()


def make_small() -> None:
    """Have several pages of few rows, no statement that comes by the clock, and one start that is watched: a lane's.

    What is done beside other work is done before it: effects have one order, in which a point is the same each time.
    """
    replay.PAGE = 3  # type: ignore[misc] - a constant
    copying.in_background = replay.in_background = at_once
    replay_run.open_relay_connection = effects.unwatched(replay_run.open_relay_connection)
    claims.DUE_SECONDS = relay.HEARTBEAT_SECONDS = handshake.EVERY_SECONDS = 3600.0  # type: ignore[misc] - constants


def at_once(work: Callable[[], Any]) -> Future[Any]:
    """Do the work in this thread, and return what came of it."""
    future: Future[Any] = Future()
    try:
        future.set_result(work())
    except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
        future.set_exception(error)
    return future


def make_impatient() -> None:
    """Make the time-outs short that are no settings."""
    connection.SERVER_MARGIN_SECONDS = swap.SWAP_SECONDS = 1  # type: ignore[misc] - constants
    postgres.IDLE_IN_TRANSACTION_MILLISECONDS = 2_000
