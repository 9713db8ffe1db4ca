"""The runbook's deploy, scaling and tracing procedures, run beside processes that are at work."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import psycopg
import pytest
from pymongo.database import Database

from api.settings import ApiSettings
from projector.settings import ProjectorSettings
from shared.mongo import Document
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.databases import alembic
from tests.fixtures.runbook import RUNBOOK, procedure, run_procedure
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ProjectorProcess, environment_of

TOKEN = "Consistency-Token"
BRIEFLY = {"Prefer": "wait=1"}
CLIENTS = 2
# What a client is answered, and what it may be answered by any service on a machine that is busy with other things.
GOOD = {"200", "201", "202"}
UNDER_LOAD = {"503 projection-pending", "503 overloaded", "503 deadline"}

StartApi = Callable[[], ApiProcess]
StartProjector = Callable[..., ProjectorProcess]


@dataclass
class Traffic:
    """Clients that create users, one after the other, and read each back with its token, wherever they are sent."""

    api: ApiProcess
    rounds: Counter[int] = field(default_factory=Counter)
    created: list[int] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Write and read on threads until the block ends."""
        threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)

    def wait_for_rounds(self) -> None:
        """Return once each client has begun a round after this call, and ended one."""
        before = dict(self.rounds)
        wait_until(
            lambda: all(self.rounds[n] >= before.get(n, 0) + 2 for n in range(CLIENTS)), "the clients have gone on", 60
        )

    def wait_for_success(self) -> None:
        """Return once a write was accepted after this call."""
        before = len(self.created)
        wait_until(lambda: len(self.created) > before, "a write is accepted", 60)

    def _run(self, n: int) -> None:
        while not self._stop.is_set():
            client = self.api.client
            body = {"name": "Ada", "email": f"ada-{n}-{self.rounds[n]}@example.org"}
            written = client.post("/users", json=body, headers=BRIEFLY)
            self.answers.append(_answer(written))
            if written.status_code in {201, 202}:
                self.created.append(written.json()["id"])
                self.answers.append(_answer(client.get(written.headers["Location"], headers=_token(written) | BRIEFLY)))
            self.rounds[n] += 1


def _token(written: httpx.Response) -> dict[str, str]:
    return {TOKEN: written.headers[TOKEN]}


def _answer(answer: httpx.Response) -> str:
    problem = answer.json().get("type", "") if answer.is_error else ""
    return f"{answer.status_code} {problem.rpartition(':')[2]}".strip()


def addresses(projector: ProjectorProcess, api: ApiProcess) -> dict[str, str]:
    """Return what takes the place of the runbook's addresses."""
    return {
        "localhost:8001": f"127.0.0.1:{projector.http.base_url.port}",
        "localhost:8000": f"127.0.0.1:{api.client.base_url.port}",
    }


def run(commands: str, settings: ProjectorSettings, replaced: dict[str, str] | None = None) -> str:
    """Run a procedure of the runbook to its good end; return what it printed."""
    done = run_procedure(commands, environment_of(settings), replaced=replaced)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_deploy_under_traffic_refuses_nobody_once_the_tables_are_there_and_loses_nothing(
    settings: ProjectorSettings,
    start_api: StartApi,
    start_projector: StartProjector,
    read_models: Database[Document],
) -> None:
    alembic(settings.database_url.get_secret_value(), "downgrade", "-1")
    old_projector, traffic = start_projector(), Traffic(start_api())
    with traffic.at_work():
        traffic.wait_for_rounds()
        run(procedure("Deploys"), settings)
        old_projector.wait_ready()
        traffic.wait_for_success()
        # At worst the code of this revision met the tables of the one before: that is said, and nothing is half done.
        assert set(traffic.answers) <= GOOD | UNDER_LOAD | {"503 store-away"}
        traffic.answers.clear()

        new_projector = start_projector()
        new_projector.wait_ready()
        assert old_projector.end() == 0
        traffic.wait_for_rounds()

        old_api, traffic.api = traffic.api, start_api()
        traffic.wait_for_rounds()
        old_api.process.terminate()
        assert old_api.process.wait(30) == 0
        traffic.wait_for_rounds()
        shown = run(procedure("Deploys", 1), settings, addresses(new_projector, traffic.api))

    assert "No drift" in shown
    assert set(traffic.answers) <= GOOD | UNDER_LOAD
    users = read_models["users_read"]
    wait_until(
        lambda: {user["_id"] for user in users.find({}, {"_id": 1})} >= set(traffic.created),
        "every write that was accepted can be read",
    )


def test_the_arithmetic_of_connections_holds(
    settings: ProjectorSettings, api_settings: ApiSettings, start_api: StartApi, start_projector: StartProjector
) -> None:
    beside, each = re.findall(r"and (\d+) beside them; a projector up to\s+(\d+)", RUNBOOK)[0]
    apis, projectors = [start_api(), start_api()], [start_projector(), start_projector()]
    for projector in projectors:
        projector.wait_ready()
    written = apis[0].client.post("/users", json={"name": "Ada", "email": "ada@example.org"})
    assert written.status_code in {201, 202}
    # A token of one process is good at every other.
    read = apis[1].client.get(written.headers["Location"], headers=_token(written))
    assert _answer(read) in GOOD | UNDER_LOAD

    shown = run(procedure("Scaling"), settings)

    found = {process: int(count) for process, count in re.findall(r"(kata-\w+) *\| *(\d+)", shown)}
    assert found.keys() == {"kata-api", "kata-projector"}
    assert found["kata-api"] <= len(apis) * (api_settings.database_pool_size + int(beside))
    assert 2 * len(projectors) < found["kata-projector"] <= len(projectors) * int(each)


@pytest.mark.parametrize("fails", [False, True])
def test_one_request_is_followed_from_the_log_to_its_message(
    settings: ProjectorSettings, start_api: StartApi, postgres: psycopg.Connection, *, fails: bool
) -> None:
    api = start_api()
    headers = {"X-Request-ID": "my-request-1", "Prefer": "respond-async"}
    api.client.post("/users", json={"name": "Ada", "email": "ada@example.org"}, headers=headers)
    if fails:
        postgres.execute(
            "WITH message AS (DELETE FROM outbox RETURNING *)"
            " INSERT INTO outbox_failures (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload,"
            "  trace_context, created_at, state, attempts, error)"
            " SELECT id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, trace_context,"
            "  created_at, 'dead', 1, 'refused' FROM message"
        )
    wait_until(lambda: "my-request-1" in api.log.read_text(), "the request is in the log")

    shown = run(procedure("Following one request"), settings, {"7f3c0a": "my-request-1", "api.log": str(api.log)})

    assert '"message_id":1' in shown.replace(" ", "")
    assert re.search(rf"1 \| user.created \| {'dead' if fails else 'on its way'}", shown)
