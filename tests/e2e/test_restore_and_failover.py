"""A database that was put back in time, or lost what it had acknowledged, is noticed before anybody is told lies.

In every test writes are lost that had been answered and read. Where their ids are issued again, documents of the same
ids and of higher versions lie in wait for the new ones. Clients go on all the time. The runbook's commands mend it.
"""

import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from devstack.ports import HOST
from tests.fixtures.runbook import procedure, run_procedure
from tests.fixtures.services import Service, copy_of, put_back, serving_service
from tests.fixtures.tcp_proxy import Mode, TcpProxy
from tests.fixtures.waiting import wait_until

TOKEN = "Consistency-Token"
KEY = "Idempotency-Key"
PAUSE_SECONDS = 0.02
AT_ONCE = {"Prefer": "wait=0"}
RESTORING = "Restoring PostgreSQL"
FAILOVER = "Failover of PostgreSQL"
# A standby that takes over knows of up to so many ids more than were issued: PostgreSQL logs them ahead.
LOGGED_AHEAD = 32
FOLLOWS = "SELECT count(*) = 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """The service, shared by the tests of this module, which leave it in order."""
    with serving_service() as service:
        yield service


@dataclass
class Client:
    """One who changes a user of his own and reads the change, again and again, and takes note of what was not so."""

    url: str
    told: int = 0
    lies: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let him go on meanwhile, from before until after."""
        thread = threading.Thread(target=self._run, name="client")
        thread.start()
        try:
            self._wait_told()
            yield
            self._wait_told()
        finally:
            self._end.set()
            thread.join(60)
        assert self.lies == []

    def _wait_told(self) -> None:
        told = self.told
        wait_until(lambda: self.told > told + 2, "the client is told something", 60)

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=40) as http:
            user = post_user(http, "client").headers["Location"]
            names: list[str] = []  # that may be shown: the last one that was acknowledged, and those that may be done
            token = ""
            while not self._end.wait(PAUSE_SECONDS):
                names.append(secrets.token_hex(8))
                answer = http.put(user, json={"name": names[-1]}, headers={"Prefer": "wait=1"})
                if answer.status_code in {200, 202}:
                    token, names = answer.headers[TOKEN], names[-1:]
                if token:
                    self._read(http, user, token, names)

    def _read(self, http: httpx.Client, user: str, token: str, names: list[str]) -> None:
        read = http.get(user, headers={TOKEN: token, "Prefer": "wait=1"})
        self.told += read.status_code == 200
        # That the token is of no use any more (400), or of none yet (503), is true at any time.
        if read.status_code not in {200, 400, 503} or (read.status_code == 200 and read.json()["name"] not in names):
            self.lies.append(f"instead of {names}: {read.status_code} {read.text}")


@pytest.fixture
def before(service: Service) -> Iterator[httpx.Response]:
    """The answer of a write that is not lost. A client goes on from before until all is as it should be."""
    with Client(str(service.api.base_url)).at_work():
        answer = kept(service)
        yield answer
        service.wait_ready()
        shown(service, answer)


def post_user(http: httpx.Client, word: str, **headers: str) -> httpx.Response:
    name = f"{word} {secrets.token_hex(4)}"
    return http.post("/users", json={"name": name, "email": f"{name.replace(' ', '-')}@example.org"}, headers=headers)


def post_again(http: httpx.Client, answer: httpx.Response) -> httpx.Response:
    """Send the same request once more, with the same key, and do not wait."""
    headers = {name: answer.request.headers[name] for name in ("Content-Type", KEY)}
    return http.post("/users", content=answer.request.content, headers={**headers, **AT_ONCE})


def read(service: Service, written: httpx.Response) -> httpx.Response:
    """Read a user with the token of the write that made it."""
    headers = {TOKEN: written.headers[TOKEN], **AT_ONCE}
    return service.api.get(f"/users/{written.json()['id']}", headers=headers)


def kept(service: Service) -> httpx.Response:
    """Write what will not be lost."""
    answer = post_user(service.api, "kept")
    assert answer.status_code == 201
    assert read(service, answer).status_code == 200
    return answer


def lost(service: Service, others: int = 0) -> httpx.Response:
    """Write what will be lost: a user at the third version, answered and read, and so many others before."""
    for _ in range(others):
        assert post_user(service.api, "lost", **AT_ONCE).status_code == 202
    answer = post_user(service.api, "lost", **{KEY: secrets.token_hex(8)})
    user = f"/users/{answer.json()['id']}"
    changes = [service.api.put(user, json={"name": "lost for good"}) for _ in range(2)]
    assert [answer.status_code, *(change.status_code for change in changes)] == [201, 200, 200]
    assert read(service, answer).json() == changes[-1].json()
    return answer


def found(service: Service, gone: httpx.Response) -> httpx.Response:
    """Write until its id is issued again; return the answer. It cannot be read, and nobody says that it can."""
    user_id, answer = gone.json()["id"], post_again(service.api, gone)
    for _ in range(2 * LOGGED_AHEAD):
        assert (answer.status_code, answer.headers["Projection-Status"]) == (202, "pending")
        if answer.json()["id"] == user_id:
            break
        answer = post_user(service.api, "found", **AT_ONCE)
    assert answer.json()["id"] == user_id
    # It would be stale, and so settled: the document of what was lost is of a higher version.
    shown = service.user_document(user_id)
    assert (shown["name"], shown["version"]) == ("lost for good", 3)
    waited = service.api.put(f"/users/{user_id}", json={}, headers={"Prefer": "wait=1"})
    assert (waited.status_code, waited.headers["Projection-Status"]) == (202, "pending")
    return waited


def not_served(service: Service, *answers: httpx.Response) -> None:
    """Assert that the tokens are refused, or those who read with them sent away for now."""
    assert {read(service, answer).status_code for answer in answers} <= {400, 503}


def noticed(service: Service, cause: str) -> None:
    """Assert that API and projector say so, whether or not there is anything to relay."""
    ready = service.api.get("/ready").json()
    assert (ready["status"], cause in ready["read_models"]) == ("degraded", True), ready
    wait_until(lambda: cause in service.reasons(), "the projector says so")
    assert service.projector.get("/ready").status_code == 503


def operate(
    service: Service, title: str, block: int = 0, *, replaced: Mapping[str, str] | None = None, **variables: str
) -> str:
    """Run a procedure of the runbook and return what it printed."""
    done = run_procedure(procedure(title, block), {**service.environment, **variables}, replaced=replaced)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mend(service: Service, cause: str, title: str, block: int = 0) -> None:
    """Run the procedure that brings everything back. It begins with what is wrong."""
    noticed(service, cause)
    told = operate(service, title, block)
    assert "ERROR  installation" in told
    assert cause in told
    assert "No drift" in told


def shown(service: Service, answer: httpx.Response) -> None:
    """Assert that everybody can read a user that was written, and is told so when he changes it."""
    user = f"/users/{answer.json()['id']}"
    assert service.api.get(user).json()["created_at"] == answer.json()["created_at"]
    changed = service.api.put(user, json={})
    assert changed.status_code == 200
    assert service.api.get(user, headers={TOKEN: changed.headers[TOKEN]}).json() == changed.json()


def test_a_dump_is_restored_into_the_running_postgresql(
    service: Service, before: httpx.Response, tmp_path: Path
) -> None:
    dump = {"kata.dump": str(tmp_path / "kata.dump")}
    operate(service, "Backups", replaced=dump)
    gone = lost(service)
    operate(service, RESTORING, replaced=dump)

    not_served(service, before, gone)
    answer = found(service, gone)
    not_served(service, before, gone, answer)
    mend(service, "the read models belong to another installation (table: ", RESTORING, 1)
    shown(service, answer)


def test_the_files_of_a_base_backup_are_put_in_place_of_postgresqls(service: Service, before: httpx.Response) -> None:
    backup = service.directory / "base-backup"
    copy_of(service.postgres, backup)
    gone = lost(service)
    service.postgres.stop()
    put_back(backup, service.postgres.cluster)
    service.postgres.restart()

    not_served(service, before, gone)
    answer = found(service, gone)
    not_served(service, before, gone, answer)
    mend(service, "PostgreSQL was restored or has lost what it had acknowledged", RESTORING, 1)
    shown(service, answer)


def test_the_files_of_an_older_copy_are_put_in_place_of_mongodbs(service: Service, before: httpx.Response) -> None:
    copy = service.directory / "mongo-copy"
    service.mongod.stop()
    shutil.copytree(service.mongod.data_dir / "db", copy)
    service.mongod.restart()
    gone = lost(service)
    service.mongod.stop()
    put_back(copy, service.mongod.data_dir / "db")
    service.mongod.restart()

    not_served(service, gone)
    repeated = post_again(service.api, gone)
    assert (repeated.status_code, repeated.json()["id"]) == (202, gone.json()["id"])
    mend(service, "MongoDB was restored or has lost what it had acknowledged", "Restoring MongoDB")
    shown(service, gone)


def test_a_standby_takes_over_that_has_not_got_everything(service: Service, before: httpx.Response) -> None:
    with TcpProxy((HOST, service.postgres.port)) as network:
        standby = service.make_standby(network.port)
        wait_until(lambda: service.ask(FOLLOWS), "the standby has everything")
        network.mode = Mode.BLACKHOLE
        gone = lost(service, LOGGED_AHEAD)
        service.postgres.kill()
        operate(service, FAILOVER, STANDBY_URL=standby.dsn)
    service.postgres = standby

    not_served(service, before, gone)
    answer = found(service, gone)
    not_served(service, before, gone, answer)
    mend(service, "the read models belong to another installation (timeline: ", FAILOVER, 1)
    shown(service, answer)


def test_a_standby_takes_over_in_good_order(service: Service, before: httpx.Response) -> None:
    standby = service.make_standby()
    wait_until(lambda: service.ask(FOLLOWS), "the standby has everything")
    service.postgres.stop()
    operate(service, FAILOVER, STANDBY_URL=standby.dsn)
    service.postgres = standby

    not_served(service, before)
    answer = post_user(service.api, "found in good order", **AT_ONCE)
    not_served(service, before, answer)
    mend(service, "the read models belong to another installation (timeline: ", FAILOVER, 1)
    shown(service, answer)
