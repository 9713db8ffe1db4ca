"""A case: a path that comes to grief at a point, what goes on beside it, its recovery, and what then is wrong."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import psutil

from shared.mongo import META
from shared.shadows import MARK
from tests.chaos.crash_points.child import Child, Job
from tests.chaos.crash_points.faults import CUTS, Fault, InjectedError, Point, loses_reply, numbered
from tests.chaos.crash_points.stage import Stage
from tests.chaos.crash_points.state import State, documents, is_held_alone, sessions, state_of, what_is_wrong
from tests.fixtures.tcp_proxy import Mode
from tests.fixtures.waiting import wait_until

# Longer than every time-out of a process that is impatient; and how long others may be held up by it.
FAULT_SECONDS: Final = 3.5
PATIENCE_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Outcome:
    """What a case came to."""

    path: str
    point: Point
    fault: Fault
    wrong: Sequence[str]
    recovery_seconds: float
    delivered_twice: int

    def __str__(self) -> str:
        return f"{self.path}: {self.fault.value} {self.point}: {'; '.join(self.wrong) or 'ok'}"


@dataclass(frozen=True)
class Struck:
    """What is known of a victim when its fault is over."""

    heard: Mapping[str, Any]
    delivered: Sequence[int]
    wrong: Sequence[str] = ()
    over_at: float = field(default_factory=time.monotonic)


class Cases:
    """The cases of one path, one after the other, on its stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._effects: Sequence[str] = ()
        self._expected: State | None = None
        self._often = 0
        self._number = 0

    def __enter__(self) -> Self:
        # It comes after every victim, works beside those held up, and is itself the victim of what a process survives.
        self._helper = Child()
        return self

    def __exit__(self, *_: object) -> None:
        self._helper.kill()

    def rehearse(self) -> Sequence[str]:
        """Run the path and all that follows without a fault; return its effects, each with a name of its own."""
        self._stage.reset()
        notes, delivered = self._stage.notes, list[int]()
        for job in (self._job("victim"), self._job("after it", notes={"mended": True})):
            self._helper.begin(replace(job, notes=notes | job.notes))
            self._helper.listen()
            assert self._helper.has("ended"), self._helper.last("raised")
            notes = self._helper.last("notes", notes)
            delivered += self._helper.delivered
            self._effects = self._effects or self._helper.last("effects")
        self._expected = state_of(self._stage.postgres, self._stage.read_models)
        # What fails is tried again, and what is done in steps is claimed for each of them.
        self._often = _repeated(delivered)
        wrong = self._what_is_wrong()
        assert not wrong, wrong
        return [numbered(effect, number) for effect, number in self._numbered()]

    def points(self, fault: Fault) -> list[Point]:
        """Return every point of the path; for a process that is killed, after one effect is before the next."""
        points = [
            Point(moment, effect, number) for effect, number in self._numbered() for moment in ("before", "after")
        ]
        return [points[0], *points[1::2]] if fault is Fault.KILLED else points

    def run(self, point: Point, fault: Fault) -> Outcome:
        """Let the fault happen at the point, recover, and say what is wrong then.

        An impatient process may be kept from ever coming to the point by a time-out of its own, and comes once more.
        """
        try:
            return self._run(point, fault) or self._run(point, fault) or self._never_there(point, fault)
        except AssertionError as error:
            # Something hung. What comes after it has a process that does not.
            self._helper.kill()
            self._helper = Child()
            return Outcome(self._stage.path.name, point, fault, [str(error)], PATIENCE_SECONDS, 0)

    def _never_there(self, point: Point, fault: Fault) -> Outcome:
        return Outcome(self._stage.path.name, point, fault, ["it never came to the point"], PATIENCE_SECONDS, 0)

    def _run(self, point: Point, fault: Fault) -> Outcome | None:
        """Return what the case came to, None when the victim never came to the point."""
        self._stage.reset()
        strike = {Fault.EXCEPTION: self._raise, Fault.KILLED: self._kill}.get(fault, self._hold_up)
        struck = strike(self._job("victim", point=point, fault=fault))
        if "arrived" not in struck.heard:
            return None
        notes = [self._stage.notes, *struck.heard.get("notes", [])][-1]
        known = {name: True for name in ("traded", "mended") if name in struck.heard}
        self._helper.begin(self._job("after it", notes=notes | known))
        self._helper.listen()
        seconds = time.monotonic() - struck.over_at
        wrong = [*struck.wrong, *(text for _, text in self._helper.heard.get("raised", [])), *self._what_is_wrong()]
        twice = max(0, _repeated([*struck.delivered, *self._helper.delivered]) - self._often)
        return Outcome(self._stage.path.name, point, fault, wrong, seconds, twice)

    def _raise(self, job: Job) -> Struck:
        helper = self._helper
        helper.begin(job)
        helper.listen()
        return Struck(helper.heard, helper.delivered, _raised_another(helper))

    def _kill(self, job: Job) -> Struck:
        with _child() as victim:
            victim.begin(job)
            survived = victim.listen()
            return Struck(victim.heard, victim.delivered, ["it was not killed"] * survived)

    def _hold_up(self, job: Job) -> Struck:
        """Cut the victim off or stop it, for longer than all time-outs, while another one works."""
        stage, other = self._stage, self._helper
        environment = stage.impatient(behind_proxies=job.fault in CUTS)
        with _child() as victim:
            victim.begin(replace(job, environment=environment, is_impatient=True))
            if not victim.listen("arrived"):
                return Struck(victim.heard, victim.delivered)
            with self._held(victim, job):
                begun = time.monotonic()
                notes = victim.last("notes", stage.notes)
                other.begin(self._job("beside it", notes=notes))
                wrong = self._wait_out(other, begun, job)
                settled = documents(stage.read_models) if other.has("done") else None
            over_at = time.monotonic()
            victim.listen()
            if settled and stage.path.is_done_by_others and (late := _changed(settled, documents(stage.read_models))):
                wrong.append(f"written late: {late}")
            heard = {**victim.heard, "traded": [True], "mended": [True]}
            delivered = victim.delivered
            if "ended" not in victim.heard:
                victim.begin(self._job("mends it"))
                victim.listen()
            if not other.has("done"):
                other.listen()
            wrong += [text for child in (victim, other) for _, text in child.heard.get("raised", [])]
            return Struck(heard, [*delivered, *other.delivered], wrong, over_at)

    @contextmanager
    def _held(self, victim: Child, job: Job) -> Iterator[None]:
        assert job.fault
        assert job.point
        if job.fault is Fault.PAUSED:
            process = psutil.Process(victim.pid)
            wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "the victim stands still")
            yield
            os.kill(victim.pid, signal.SIGCONT)
            return
        proxy = self._stage.proxies[CUTS[job.fault]]
        proxy.mode = Mode.HOLD_REPLIES if loses_reply(job.point, job.fault) else Mode.BLACKHOLE
        victim.go_on()
        yield
        if job.fault is Fault.POSTGRES_CUT:
            # Its driver waits for ever, and is told by the kernel that nobody is there: after 20 seconds, see shared.
            proxy.reset_all()
        proxy.mode = Mode.PASS

    def _wait_out(self, other: Child, begun: float, job: Job) -> list[str]:
        """Wait until the fault has lasted, and the other one is done.

        It is held up by nobody but who is alone with the read models; by him, too, no longer than his own time-outs
        take that are for MongoDB. And it has nothing to work on while somebody empties them.
        """
        while True:
            seconds = time.monotonic() - begun
            is_free = job.fault is Fault.MONGODB_CUT or not is_held_alone(self._stage.postgres)
            is_refused = self._stage.path.empties and "ForeignReadModelsError" in f"{other.last('waits')}"
            if seconds > FAULT_SECONDS and (other.has("done") or is_refused or not is_free):
                return []
            if seconds > PATIENCE_SECONDS:
                return [f"others were held up: {other.heard.get('waits')}, {sessions(self._stage.postgres)}"]
            time.sleep(0.02)

    def _numbered(self) -> list[tuple[str, int]]:
        seen: Counter[str] = Counter()
        numbered: list[tuple[str, int]] = []
        for effect in self._effects:
            seen[effect] += 1
            numbered.append((effect, seen[effect]))
        return numbered

    def _job(self, role: Any, **how: Any) -> Job:
        self._number += 1
        stage = self._stage
        name = f"{stage.name} {role} {self._number}"
        return Job(
            stage.path.name,
            role,
            name,
            **({"environment": stage.environment, "ids": stage.ids, "notes": stage.notes} | how),
        )

    def _what_is_wrong(self) -> list[str]:
        assert self._expected
        wait_until(lambda: not sessions(self._stage.postgres), "no session is left", 30)
        stage = self._stage
        return what_is_wrong(stage.postgres, stage.read_models, self._expected, tombstones_vary=stage.path.empties)


@contextmanager
def _child() -> Iterator[Child]:
    child = Child()
    try:
        yield child
    finally:
        child.kill()


def _repeated(delivered: Sequence[int]) -> int:
    return len(delivered) - len(set(delivered))


def _raised_another(victim: Child) -> list[str]:
    return [text for name, text in victim.heard.get("raised", []) if name != InjectedError.__name__]


def _changed(before: Mapping[str, Sequence[Any]], after: Mapping[str, Sequence[Any]]) -> list[str]:
    # For a shadow that is gone by then MongoDB makes a collection anew. Nobody reads it, and the next replay drops it.
    # And hands may be shaken at any time.
    names = {name for name in before.keys() | after.keys() if MARK not in name} - {META}
    return [
        f"{name}: {after.get(name)} instead of {before.get(name)}"
        for name in sorted(names)
        if before.get(name) != after.get(name)
    ]
