"""One storm from its beginning to the verdict."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.chaos.storm.board import Board
from tests.chaos.storm.clients import Appender, Client, Creator, Renamer, TokenReader, WaitingReader
from tests.chaos.storm.faults import KINDS, Fault, Weather, gusts
from tests.chaos.storm.judge import judge
from tests.chaos.storm.ledger import Ledger, read_ledger
from tests.chaos.storm.replayer import Replayer
from tests.chaos.storm.told import Told
from tests.chaos.storm.world import NobodyLeftError, World
from tests.chaos.storm.wrong import Finding, Wrong
from tests.fixtures.waiting import wait_until

CROWD: Final = (
    (Creator, 2),
    (Appender, 3),
    (Renamer, 1),
    (WaitingReader, 2),
    (TokenReader, 3),
)
OWNERS: Final = 6
LOOK_SECONDS: Final = 0.05
SETTLE_SECONDS: Final = 120

Say = Callable[[str], None]


@dataclass
class Course:
    """What a storm was: its faults by kind, how long each recovery took, what clients were told, and what was wrong."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    replays: Counter[str] = field(default_factory=Counter)
    told: Told = field(default_factory=lambda: Told(()))
    documents: int = 0
    seconds: float = 0
    findings: list[Finding] = field(default_factory=list)

    def has_had_every_kind(self) -> bool:
        """Return whether there was a fault of each kind."""
        return self.faults.keys() == KINDS.keys()


def rage(directory: Path, seed: int, weather: Weather, is_over: Callable[[Course], bool], say: Say) -> Course:
    """Let a storm of this seed rage until it `is_over`, asked after each gust, and judge what came of it.

    `directory` keeps the ledger and the logs. `say` is told how it goes on.
    """
    course = Course(seed)
    ledger, board = Ledger(directory / f"ledger-{seed}.jsonl"), Board()
    say(f"seed {seed}; the ledger is {ledger.path}")
    with World(directory) as world:
        founder = Client("founder", world.apis, ledger, board, seed)
        for _ in range(OWNERS):
            founder.begin_journal(founder.create_user().written[0])
        replayer = Replayer(world.stores, directory / "replays.log", seed)
        begun = time.monotonic()
        with _at_work(_crowd(world, ledger, board, seed), replayer):
            for gust in gusts(seed, weather):
                course.faults += _blow(world, gust, directory / "faults.log")
                course.recoveries.append(world.recover(lambda: _prove(world, founder)))
                course.seconds = time.monotonic() - begun
                say(_told(gust, course.recoveries[-1], ledger.acknowledged))
                if is_over(course):
                    break
        say("everything is whole again, and is judged")
        ledger.close()
        _judge(course, world, replayer, ledger)
    return course


def _judge(course: Course, world: World, replayer: Replayer, ledger: Ledger) -> None:
    wait_until(lambda: not world.end_state().unsettled, "everything is settled", SETTLE_SECONDS)
    replayer.finish()
    course.replays = replayer.ends
    course.findings += [Finding(Wrong.DRIFT, drift) for drift in replayer.verify()]
    course.findings += [Finding(Wrong.REPLAY, failed) for failed in replayer.inexcusable]
    course.findings += [Finding(Wrong.PROCESS, ended) for ended in world.ended]
    course.told, stores = Told(read_ledger(ledger.path)), world.end_state()
    course.documents = len(stores.write_model)
    course.findings += judge(course.told, stores)


def _crowd(world: World, ledger: Ledger, board: Board, seed: int) -> list[Client]:
    return [
        kind(f"{kind.__name__.lower()}{number}", world.apis, ledger, board, seed)
        for kind, count in CROWD
        for number in range(1, count + 1)
    ]


@contextmanager
def _at_work(clients: Sequence[Client], replayer: Replayer) -> Iterator[None]:
    """Inside, they are all at work. What breaks one of them off is raised at the end."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(clients) + 1, "client") as pool:
        work: list[Future[None]] = [pool.submit(each.run, stop) for each in (*clients, replayer)]
        try:
            yield
        finally:
            stop.set()
    for each in work:
        each.result()


def _blow(world: World, gust: Iterable[Fault], log: Path) -> Counter[str]:
    """Begin and heal the faults of a gust, each at its time; return how many there were of each kind.

    One that finds no victim waits for one.
    """
    begun, waiting = time.monotonic(), list(gust)
    at_work: list[tuple[float, ExitStack]] = []
    counts: Counter[str] = Counter()
    with ExitStack() as everything, log.open("a", encoding="utf-8") as lines:
        while waiting or at_work:
            now = time.monotonic() - begun
            for healed in [(until, hurt) for until, hurt in at_work if until <= now]:
                at_work.remove(healed)
                healed[1].close()
            for fault in [fault for fault in waiting if fault.after <= now]:
                hurt = everything.enter_context(ExitStack())
                try:
                    victim = hurt.enter_context(KINDS[fault.kind](world, Random(fault.seed)))  # noqa: S311 - repeatable
                except NobodyLeftError:
                    continue
                hurt.callback(
                    lines.write, f"{fault.kind}: {victim}, from {begun + now:.3f} for {fault.seconds:.3f} s\n"
                )
                waiting.remove(fault)
                at_work.append((time.monotonic() - begun + fault.seconds, hurt))
                counts[fault.kind] += 1
            world.look_after()
            time.sleep(LOOK_SECONDS)
    return counts


def _prove(world: World, founder: Client) -> None:
    """Return once every API process has answered a write that can be read."""
    for api in world.apis:
        wait_until(lambda api=api: founder.create_user(api=api).is_visible, f"{api[0]} serves", SETTLE_SECONDS)


def _told(gust: Sequence[Fault], recovery: float, acknowledged: int) -> str:
    faults = ", ".join(f"{fault.kind} {fault.seconds:.1f} s" for fault in gust)
    return f"{faults}; recovered after {recovery:.1f} s; {acknowledged:,} commands acknowledged"
