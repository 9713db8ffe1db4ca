"""Everything that one instance runs: databases, migrations, roles, API, projectors; stopped backwards.

What can start at the same time does: mongod elects itself while PostgreSQL starts and migrates. Where nothing is to be
migrated, the processes start while their roles are looked through. At the end the API stops first, so that the
projectors drain what it has committed, and the databases last, both at once.
"""

import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from devstack.addresses import Addresses
from devstack.applications import (
    DATABASE,
    MIGRATE,
    Application,
    connection_environment,
    inherited_environment,
)
from devstack.child import Child
from devstack.errors import ServerError
from devstack.layout import CHECKOUT, Layout
from devstack.mongod import Mongod
from devstack.postgres import Postgres
from devstack.preparation import ensure_database, is_prepared, remember_prepared
from devstack.reporter import Reporter
from devstack.roles import MAKE_ROLES, connections_as, passwords
from devstack.service import Service
from devstack.state import InstanceState, ProcessRecord, State
from devstack.waiting import wait_until

READY_SECONDS = 60.0
DRAINING = ((signal.SIGTERM, 15.0),)
LOOK_AGAIN_SECONDS = 0.05  # while something starts
IDLE_SECONDS = 30.0  # else signals wake us


class Stack:
    """start() it once, look() whenever something may have happened, stop() it always."""

    def __init__(self, layout: Layout, reporter: Reporter, supervisor: ProcessRecord) -> None:
        self._layout = layout
        self._reporter = reporter
        self._supervisor = supervisor
        self._mongod: Mongod | None = None
        self._postgres: Postgres | None = None
        self._preparation: Child | None = None
        self._services: list[Service] = []
        self._written: InstanceState | None = None

    def start(self, applications: Iterable[Application], check: Callable[[], object]) -> Addresses:
        """Return when everything is ready. `check` is called now and then and may raise to give up."""
        self._reporter.step("Starting PostgreSQL and mongod")
        mongod = self._mongod = Mongod.launch(self._layout.mongod, auth=True, log=self._layout.log("mongod"))
        self._write_state(State.STARTING)
        postgres = self._postgres = Postgres.start(self._layout.postgres, log=self._layout.log("postgres"))
        self._write_state(State.STARTING)
        check()
        ensure_database(postgres.dsn, DATABASE)
        administrator = connection_environment(postgres.dsn_of(DATABASE), mongod.uri)
        if is_prepared(postgres.dsn_of(DATABASE), self._layout.prepared):
            roles = self._begin_roles(administrator)
            self._start_services(applications, postgres.port, mongod.port)
            mongod.wait_ready(check)
            self._finish(roles, check)
        else:
            self._reporter.step("Migrating the database")
            migrations = self._begin("migrations", MIGRATE, administrator)
            mongod.wait_ready(check)
            self._finish(migrations, check)
            # Afterwards, for PostgreSQL is ready before mongod: whoever migrates, tables go to the role that owns them.
            self._finish(self._begin_roles(administrator), check)
            remember_prepared(postgres.dsn_of(DATABASE), self._layout.prepared)
            self._start_services(applications, postgres.port, mongod.port)
        for service in self._services:
            self._wait_for(service, check)
        self._write_state(State.RUNNING)
        urls = [service.url for service in self._services]
        return Addresses(urls[0], urls[1], tuple(urls[1:]), administrator["DATABASE_URL"], administrator["MONGO_URL"])

    def look(self) -> float:
        """Restart what ended and return after how many seconds to look again.

        Raises ServerError when it was a database.
        """
        for database in (self._postgres, self._mongod):
            if database and database.child.exit_code is not None:
                message = f"{database.child.ending}, so everything was stopped; its log is {database.child.log}."
                raise ServerError(message)
        for service in self._services:
            if news := service.look(time.monotonic()):
                self._reporter.note(news)
        self._write_state(State.RUNNING)
        all_run = all(service.state is State.RUNNING for service in self._services)
        return IDLE_SECONDS if all_run else LOOK_AGAIN_SECONDS

    def stop(self) -> None:
        """Stop whatever was started. Returns when all of it is gone."""
        self._write_state(State.STOPPING)
        if self._preparation:
            self._preparation.kill()
        api, projectors = self._services[:1], self._services[1:]
        _stop_together([service.child for service in api], *DRAINING)
        _stop_together([service.child for service in projectors], *DRAINING)
        if self._mongod:
            self._mongod.request_stop()
        if self._postgres:
            self._postgres.stop()
        if self._mongod:
            self._mongod.stop()

    def _start_services(self, applications: Iterable[Application], postgres_port: int, mongo_port: int) -> None:
        self._reporter.step("Starting the API and the projectors")
        for application in applications:
            connections = connections_as(self._layout, application.role, postgres_port, mongo_port)
            service = Service(application, connections, self._layout.log(application.name))
            service.start(time.monotonic())
            self._services.append(service)
            self._write_state(State.STARTING)

    def _begin_roles(self, administrator: Mapping[str, str]) -> Child:
        self._reporter.step("Making the roles that the processes work under")
        return self._begin("roles", MAKE_ROLES, {**administrator, **passwords(self._layout)})

    def _begin(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start what has to be done before anything serves."""
        self._preparation = Child.start(
            name,
            command,
            log=self._layout.log(name),
            environment=inherited_environment(environment),
            death_signal=signal.SIGKILL,
            directory=CHECKOUT,
        )
        return self._preparation

    def _finish(self, child: Child, check: Callable[[], object]) -> None:
        """Wait for its end. Raises ServerError."""

        def ended() -> bool:
            check()
            return child.exit_code is not None

        wait_until(ended, seconds=READY_SECONDS, failure=f"The {child.name} hang: see {child.log}.")
        if child.exit_code != 0:
            message = f"The {child.name} failed with exit code {child.exit_code}: {child.last_words()} ({child.log})."
            raise ServerError(message)

    def _wait_for(self, service: Service, check: Callable[[], object]) -> None:
        def runs() -> bool:
            check()
            self._look_at_start(service)
            return service.state is State.RUNNING

        wait_until(runs, seconds=READY_SECONDS, failure=lambda: service.not_ready(READY_SECONDS))

    def _look_at_start(self, service: Service) -> None:
        """At the start nothing is restarted: what ends now would end again. Raises ServerError."""
        if service.child.exit_code is not None:
            message = f"{service.ending} Its last words: {service.child.last_words()}"
            raise ServerError(message)
        service.look(time.monotonic())

    def _write_state(self, state: State) -> None:
        """Only when it changed: status reads it, and a supervisor that idles should not write."""
        database_state = State.STARTING if state is State.STARTING else State.RUNNING
        databases = [
            ProcessRecord.of(role, server.pid, server.port, database_state)
            for role, server in (("postgres", self._postgres), ("mongo", self._mongod))
            if server
        ]
        services = [service.record for service in self._services]
        supervisor = ProcessRecord(**{**vars(self._supervisor), "state": state})
        new = InstanceState(supervisor, (*databases, *services))
        if new != self._written:
            new.write(self._layout.state)
            self._written = new


def _stop_together(children: list[Child], *escalation: tuple[signal.Signals, float]) -> None:
    for child in children:
        child.request_stop(escalation[0][0])
    for child in children:
        child.stop(*escalation)
