"""The faults of a storm. Each has a victim, lasts a bounded time, and is healed.

A storm comes in gusts of several faults that overlap; after each everything is whole for a moment. What is going to
happen is made up from a seed alone: kinds are dealt from a shuffled deck, so none stays away for long. Who is hit is
found out when it happens: the primary is whoever is it then.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.chaos.storm.victims import API, MONGOD, POSTGRES, PROJECTOR, MongodVictim, Victim
from tests.chaos.storm.world import World

Happening = Callable[[World, Random], AbstractContextManager[str]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a gust: when it begins, in seconds after the gust's beginning, and how long it lasts."""

    kind: str
    after: float
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Weather:
    """How a storm is: how many faults a gust has, within which seconds they begin, and how long each may last."""

    faults: tuple[int, int]
    spread_seconds: float
    seconds: tuple[float, float]
    long_seconds: tuple[float, float]
    long_share: float


# In CI: every kind once. Longer than an election takes.
SQUALL: Final = Weather((5, 5), spread_seconds=3, seconds=(2, 4), long_seconds=(2, 4), long_share=0)
# Now and then longer than a batch may last, and than the sessions' time-outs.
STORM: Final = Weather((2, 7), spread_seconds=12, seconds=(1, 8), long_seconds=(12, 25), long_share=0.2)


def gusts(seed: int, weather: Weather) -> Iterator[Sequence[Fault]]:
    """Yield gust after gust, without an end."""
    random = Random(seed)  # noqa: S311 - to be repeated
    deck: list[str] = []
    while True:
        gust: list[Fault] = []
        for _ in range(random.randint(*weather.faults)):
            if not deck:
                deck = random.sample(sorted(KINDS), len(KINDS))
            bounds = weather.long_seconds if random.random() < weather.long_share else weather.seconds
            after, seconds = random.uniform(0, weather.spread_seconds), random.uniform(*bounds)
            gust.append(Fault(deck.pop(), after, seconds, random.getrandbits(32)))
        yield sorted(gust, key=lambda fault: fault.after)


@contextmanager
def _killed(victim: Victim) -> Iterator[str]:
    victim.kill()
    try:
        yield victim.name
    finally:
        victim.start()


@contextmanager
def _stopped(victim: Victim) -> Iterator[str]:
    victim.stop()
    try:
        yield victim.name
    finally:
        victim.go_on()


def _to(role: str, hurt: Callable[[Victim], AbstractContextManager[str]]) -> Happening:
    @contextmanager
    def happening(world: World, random: Random) -> Iterator[str]:
        with world.hitting(role, random) as victim, hurt(victim) as what:
            yield what

    return happening


def _to_member(hurt: Callable[[Victim], AbstractContextManager[str]], *, primary: bool) -> Happening:
    @contextmanager
    def happening(world: World, random: Random) -> Iterator[str]:
        with world.hitting_member(random, primary=primary) as victim, hurt(victim) as what:
            yield what

    return happening


def _cut_off(role: str, server: str) -> Happening:
    """A process of ours reaches no server of this role any more."""

    @contextmanager
    def happening(world: World, random: Random) -> Iterator[str]:
        servers = [victim.name for victim in world.victims if victim.role == server]
        with world.hitting(role, random) as victim:
            links = [(victim.name, name) for name in servers]
            with world.network.cut(links, reset=random.random() < 0.5):
                yield victim.name

    return happening


@contextmanager
def _severed(world: World, random: Random, victim: MongodVictim) -> Iterator[str]:
    """This member reaches no other one. An API process and a projector are on its side: they see no other either."""
    others = [member.name for member in world.mongods if member is not victim]
    beside = [random.choice([s.name for s in world.services if s.role == role]) for role in (API, PROJECTOR)]
    links = [(name, other) for name in (victim.name, *beside) for other in others]
    links += [(other, victim.name) for other in others]
    with world.network.cut(links, reset=random.random() < 0.5):
        yield f"{victim}, with {' and '.join(beside)}"


@contextmanager
def _deposed(world: World, random: Random) -> Iterator[str]:
    """The others elect another primary; this one gives up when it has not heard of them for as long."""
    with world.hitting_member(random, primary=True) as victim, _severed(world, random, victim) as what:
        yield what


@contextmanager
def _deposed_unnoticed(world: World, random: Random) -> Iterator[str]:
    """The same, but it never comes to giving up: it goes on to answer reads as if nothing had happened."""
    with (
        world.hitting_member(random, primary=True) as victim,
        _severed(world, random, victim) as what,
        victim.member.clinging_to_its_role(),
    ):
        yield what


@contextmanager
def _lonely(world: World, random: Random) -> Iterator[str]:
    """A member that nobody reaches, and that reaches nobody."""
    with world.hitting(MONGOD, random) as victim:
        others = [other.name for other in world.victims if other is not victim]
        links = [(name, victim.name) for name in others]
        links += [(victim.name, member.name) for member in world.mongods if member is not victim]
        with world.network.cut(links, reset=random.random() < 0.5):
            yield victim.name


KINDS: Final[Mapping[str, Happening]] = {
    "API process killed": _to(API, _killed),
    "API process stopped": _to(API, _stopped),
    "API process cut off from PostgreSQL": _cut_off(API, POSTGRES),
    "API process cut off from MongoDB": _cut_off(API, MONGOD),
    "projector killed": _to(PROJECTOR, _killed),
    "projector stopped": _to(PROJECTOR, _stopped),
    "projector cut off from PostgreSQL": _cut_off(PROJECTOR, POSTGRES),
    "projector cut off from MongoDB": _cut_off(PROJECTOR, MONGOD),
    "PostgreSQL killed": _to(POSTGRES, _killed),
    "PostgreSQL stopped": _to(POSTGRES, _stopped),
    "MongoDB primary killed": _to_member(_killed, primary=True),
    "MongoDB primary stopped": _to_member(_stopped, primary=True),
    "MongoDB primary deposed": _deposed,
    "MongoDB primary deposed without noticing": _deposed_unnoticed,
    "MongoDB secondary killed": _to_member(_killed, primary=False),
    "MongoDB secondary stopped": _to_member(_stopped, primary=False),
    "MongoDB member cut off from everybody": _lonely,
}
