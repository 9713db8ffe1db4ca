"""The world of a storm: API processes, projectors, PostgreSQL and a replica set of three, on a network of its own."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self

from devstack.applications import DATABASE, Application, api, connection_environment, projector
from devstack.ports import HOST, free_ports
from devstack.postgres import Postgres, dsn
from devstack.preparation import ensure_database
from devstack.replica_set import NAME
from devstack.scratch import scratch_directory
from tests.chaos.storm.judge_stores import Stores
from tests.chaos.storm.network import Network
from tests.chaos.storm.stores import look
from tests.chaos.storm.victims import (
    API,
    POSTGRES,
    PROJECTOR,
    MongodVictim,
    PostgresVictim,
    ServiceVictim,
    Victim,
)
from tests.fixtures.databases import alembic
from tests.fixtures.replica_sets import Member, ThreeMemberSet, initiate
from tests.fixtures.waiting import wait_until

# One API process per number: so many seconds, unless it is told, its driver believes that the primary still is it.
LOOKS: Final = (10, 60)
# One projector per deadline. The impatient one is soon with a new primary, while others still wait for the one before.
BATCH_DEADLINES: Final = ("3", "10")
READY_SECONDS: Final = 120


class NobodyLeftError(LookupError):
    """Every victim of this kind is hit by a fault already."""


class World:
    """`with World(directory) as world:` everything runs and is ready. `directory` keeps the logs of our processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.services: list[ServiceVictim] = []
        self.mongods: list[MongodVictim] = []
        self.ended: list[str] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        scratch = stack.enter_context(scratch_directory())
        self.network = stack.enter_context(Network(self._processes))
        members: list[Member] = []
        for number in range(3):
            members.append(Member(number, scratch / str(number)))
            stack.callback(members[-1].kill)
            stack.callback(members[-1].resume)
        # As it is used: what is committed is on the disk.
        server = stack.enter_context(Postgres.start(scratch / "postgres"))
        self.postgres = PostgresVictim(server)
        ensure_database(server.dsn, DATABASE)
        alembic(server.dsn_of(DATABASE), "upgrade", "head")
        for member in members:
            member.wait_listening()
            stack.callback(member.client.close)
        self.mongods = [MongodVictim(member) for member in members]
        addresses = [f"{HOST}:{self.network.listen(m.name, m.member.port)}" for m in self.mongods]
        initiate(members, addresses)
        self.set = ThreeMemberSet(members)
        self.set.make_whole()
        self.stores = connection_environment(
            dsn(self.network.listen(POSTGRES, server.port), server.password, DATABASE),
            f"mongodb://{','.join(addresses)}/?replicaSet={NAME}",
        )
        ports = iter(free_ports(len(LOOKS) + len(BATCH_DEADLINES)))
        for number, seconds in enumerate(LOOKS, start=1):
            patience = {**self.stores, "MONGO_URL": f"{self.stores['MONGO_URL']}&heartbeatFrequencyMS={seconds}000"}
            self._serve(stack, API, number, api(next(ports)), patience)
        for number, deadline in enumerate(BATCH_DEADLINES, start=1):
            impatience = {**self.stores, "BATCH_DEADLINE_SECONDS": deadline}
            self._serve(stack, PROJECTOR, number, projector(number, next(ports)), impatience)
        wait_until(self.is_ready, "everything is ready", READY_SECONDS)

    def _serve(
        self, stack: ExitStack, role: str, number: int, application: Application, settings: Mapping[str, str]
    ) -> None:
        log = self._directory / f"{role}-{number}.log"
        service = ServiceVictim(role, number, application, settings, log)
        self.services.append(service)
        stack.callback(service.end)

    @property
    def apis(self) -> Sequence[tuple[str, str]]:
        """Name and URL of each API process."""
        return [(service.name, service.url) for service in self.services if service.role == API]

    @property
    def victims(self) -> Sequence[Victim]:
        """Everybody."""
        return [*self.services, self.postgres, *self.mongods]

    def _processes(self) -> Mapping[str, int]:
        return {victim.name: victim.pid for victim in self.victims}

    @contextmanager
    def hitting(self, role: str, random: Random) -> Iterator[Victim]:
        """Choose one of this role whom no other fault has, and keep others from it. Raises NobodyLeftError."""
        with self._hitting([v for v in self.victims if v.role == role and not v.is_hit], random) as victim:
            yield victim

    @contextmanager
    def hitting_member(self, random: Random, *, primary: bool) -> Iterator[MongodVictim]:
        """The same of the members of the set that are, or are not, its primary at the moment."""
        role = "isWritablePrimary" if primary else "secondary"
        found = [m for m in self.mongods if not m.is_hit and m.member.hello.get(role)]
        with self._hitting(found, random) as victim:
            assert isinstance(victim, MongodVictim)
            yield victim

    @contextmanager
    def _hitting(self, candidates: Sequence[Victim], random: Random) -> Iterator[Victim]:
        if not candidates:
            raise NobodyLeftError
        victim = random.choice(candidates)
        victim.is_hit = True
        try:
            yield victim
        finally:
            victim.is_hit = False

    def look_after(self) -> None:
        """Start again what has ended by itself, as a supervisor would, and keep in mind that it did."""
        for service in self.services:
            if service.has_ended and not service.is_hit:
                self.ended.append(f"{service.child.ending}; its log is {service.log}")
                service.start()

    def is_ready(self) -> bool:
        """Whether every API process and every projector says that it can serve."""
        self.look_after()
        return all(service.is_ready() for service in self.services)

    def recover(self, prove: Callable[[], object]) -> float:
        """Return after how many seconds, now that nothing is broken, all are ready and `prove` has succeeded."""
        begun = time.monotonic()
        wait_until(self.is_ready, "everything is ready again", READY_SECONDS)
        prove()
        return time.monotonic() - begun

    def end_state(self) -> Stores:
        """Return what both stores hold, read from the servers themselves."""
        return look(self.postgres.server.dsn_of(DATABASE), self.set.primary.uri, DATABASE)
