"""The stage: actors on threads of their own, of which one moves at a time, from one command to the next.

An actor stops before every command that it is about to send to a database. Whoever tells the story decides who goes on
and how far. So every interleaving can happen, and the same story told again goes the same way.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

# So many commands no act has: to its end.
TO_THE_END: Final = 999

# So often one looks whether somebody who has not stopped waits for a lock.
LOOK_SECONDS: Final = 0.01
STUCK_SECONDS: Final = 60

_here = threading.local()


class EndedError(BaseException):
    """An actor ends where it stands and sends nothing any more: nothing of ours may catch this."""

    what = "ended"


class KilledError(EndedError):
    """Its process was killed."""

    what = "was killed"


class LostServersError(EndedError):
    """It gives up what it does because a server is away; its process goes on."""

    what = "lost its servers"


def stop_before(command: str) -> None:
    """Let the actor on this thread, if there is one, wait until it may send a command."""
    actor: Actor | None = getattr(_here, "actor", None)
    if actor:
        actor.stop_before(command)


@contextmanager
def without_stops() -> Iterator[None]:
    """Let the actor on this thread send commands without a stop."""
    actor, _here.actor = getattr(_here, "actor", None), None
    try:
        yield
    finally:
        _here.actor = actor


class Actor:
    """Somebody who works on the databases, one act after the other. `lines` tells which commands were sent."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.stopped = threading.Event()
        self.stopped.set()
        self._lines = lines
        self._moves = 0
        self._end: type[EndedError] | None = None
        self._may_go = threading.Semaphore(0)
        self._is_over = True
        self._error: BaseException | None = None
        self._before = ""

    @property
    def is_idle(self) -> bool:
        """Whether it is in no act."""
        return self._is_over

    def begin(self, act: Callable[[], None]) -> None:
        """Begin an act and stop before its first command."""
        self._moves, self._end, self._is_over = 0, None, False
        self.stopped.clear()
        threading.Thread(target=self._play, args=(act,), name=self.name, daemon=True).start()

    def go_on(self, moves: int) -> None:
        """Send up to so many commands."""
        self._moves = moves
        self.stopped.clear()
        self._may_go.release()

    def stop_soon(self) -> None:
        """Send nothing more after the command that is on its way."""
        self._moves = 0

    def end(self, how: type[EndedError]) -> None:
        """End the act before the next command."""
        self._end = how
        self.stopped.clear()
        self._may_go.release()

    def stop_before(self, command: str) -> None:
        """Wait, on this actor's own thread, until it may go on."""
        while not self._moves and not self._end:
            self._before = command
            self.stopped.set()
            self._may_go.acquire()
        if self._end:
            raise self._end
        self._moves -= 1
        self._lines.append(f"{self.name}: {command}")

    def raise_error(self) -> None:
        """Raise what went wrong in its act."""
        if self._error:
            error, self._error = self._error, None
            raise error

    def tell(self) -> None:
        """Tell where it stands."""
        if not self._is_over:
            stands = f"stands before: {self._before}" if self.stopped.is_set() else "waits for a lock"
            self._lines.append(f"{self.name} {stands}")

    def _play(self, act: Callable[[], None]) -> None:
        _here.actor = self
        try:
            act()
        except EndedError:
            self._lines.append(f"{self.name} ends here")
        except BaseException as error:  # noqa: BLE001 - raised again on the thread that tells the story
            self._error = error
        self._is_over = True
        self.stopped.set()


class Stage:
    """The actors. `blockers` tells who waits for a lock in PostgreSQL, by name, and whom each of them waits for.

    `others_hold_locks` says whether anybody who is no actor may hold one.
    """

    def __init__(
        self,
        names: Iterable[str],
        others_hold_locks: Callable[[], bool],
        blockers: Callable[[], Mapping[str, set[str]]],
    ) -> None:
        self._others_hold_locks = others_hold_locks
        self.lines: list[str] = []
        self.actors = {name: Actor(name, self.lines) for name in names}
        self._blockers = blockers

    def begin(self, name: str, act: Callable[[], None]) -> None:
        """Let an actor who is idle begin an act."""
        self.actors[name].begin(act)
        self._watch(self.actors[name])

    def go_on(self, name: str, moves: int = TO_THE_END) -> None:
        """Let an actor send up to so many commands, unless it is idle or waits for a lock."""
        if self.is_free(name):
            self.actors[name].go_on(moves)
            self._watch(self.actors[name])

    def end(self, name: str, how: type[EndedError]) -> None:
        """End an actor's act, unless it is idle or waits for a lock."""
        if self.is_free(name):
            self.actors[name].end(how)
            self._watch(self.actors[name])

    def is_free(self, name: str) -> bool:
        """Return whether an actor stands before a command."""
        actor = self.actors[name]
        return not actor.is_idle and actor.stopped.is_set()

    @property
    def busy(self) -> list[str]:
        """Who is in an act."""
        return [name for name, actor in self.actors.items() if not actor.is_idle]

    def finish(self) -> None:
        """Bring every act to its end."""
        while self.busy:
            free = [name for name in self.busy if self.is_free(name)]
            assert free, f"stuck, each waits for a lock: {self.busy}"
            for name in free:
                self.go_on(name)

    def clear(self) -> None:
        """End every act where it stands, whatever becomes of it."""
        while self.busy:
            self._wait()
            for name in [name for name in self.busy if self.is_free(name)]:
                self.actors[name].end(KilledError)
        self.actors = {name: Actor(name, self.lines) for name in self.actors}
        self.lines.clear()

    def wait(self) -> None:
        """Return once nobody moves, and raise what went wrong: somebody may have let a lock go."""
        self._wait()
        for actor in self.actors.values():
            actor.raise_error()

    def _watch(self, actor: Actor) -> None:
        self.wait()
        actor.tell()

    def _wait(self) -> None:
        """Return once nobody moves: each stands before a command, waits for a lock, or is in no act."""
        deadline = time.monotonic() + STUCK_SECONDS
        for actor in self.actors.values():
            may_wait = self._others_hold_locks() or len(self.busy) > 1
            while not actor.stopped.wait(LOOK_SECONDS if may_wait else STUCK_SECONDS):
                moving = {name for name, each in self.actors.items() if not each.stopped.is_set()}
                if moving <= _waiting_for_others(self._blockers()):
                    # Whoever is let go on later stops again: others may be let go on at the same time.
                    for name in moving:
                        self.actors[name].stop_soon()
                    break
                assert time.monotonic() < deadline, f"stuck: {moving}"


def _waiting_for_others(blockers: Mapping[str, set[str]]) -> set[str]:
    """Return who waits for somebody who does not wait: those in a circle are freed by PostgreSQL."""
    waiting: set[str] = set()
    while True:
        more = {name for name, held_by in blockers.items() if held_by - (blockers.keys() - waiting)} - waiting
        if not more:
            return waiting
        waiting |= more
