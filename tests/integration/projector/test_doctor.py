"""`projector doctor`: a healthy installation has no finding, and one bad check hides no other."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from devstack.layout import CHECKOUT
from projector.doctor import examine as examining
from projector.doctor import sessions
from projector.doctor.checks import CHECKS
from projector.doctor.examine import Report, examine
from projector.doctor.finding import Check, Finding, NotSeenError, Severity
from projector.settings import ProjectorSettings
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import Outbox
from tests.fixtures.runbook import RUNBOOK, procedure, run_procedure
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, ProjectorProcess, environment_of, migrate, run_cli

NOBODY = "postgresql://kata:kata@127.0.0.1:1/kata"


@pytest.fixture
def patient(settings: ProjectorSettings) -> ProjectorSettings:
    """Settings with which neither a slow nor a full machine is a finding: tests share theirs."""
    return settings.model_copy(
        update={"disk_free_percent_least": 0, "batch_deadline_seconds": 120, "lag_degraded_seconds": 600}
    )


def assert_healthy(report: Report) -> None:
    assert report.findings == {}
    assert [*report.checked, *report.unchecked] == [check.name for check in CHECKS]


def test_an_idle_installation_is_healthy(
    start_projector: Callable[..., ProjectorProcess], patient: ProjectorSettings, api: ApiClient, outbox: Outbox
) -> None:
    projector = start_projector(patient)
    projector.wait_ready()
    api.new_item(api.new_user()["id"])
    wait_until(lambda: outbox.ids() == [], "messages are settled")

    done = run_cli(patient, "doctor", "--json")

    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer["healthy"], answer["findings"]) == (True, []), done.stdout
    assert done.returncode == 0
    assert [*answer["checked"], *answer["unchecked"]] == [check.name for check in CHECKS], answer["unchecked"]


def test_a_busy_installation_is_healthy(
    start_projector: Callable[..., ProjectorProcess], patient: ProjectorSettings, api: ApiClient
) -> None:
    projector = start_projector(patient)
    projector.wait_ready()
    user_id = api.new_user()["id"]
    items = [api.new_item(user_id)["id"] for _ in range(4)]
    reports: list[Report] = []

    def write(item_id: int) -> int:
        writes = 0
        while not reports:
            writes += api.put(f"/items/{item_id}", json={"quality": writes % 50}).is_success
        return writes

    seeding = subprocess.Popen(
        [sys.executable, "api/scripts/seed.py", "--users", "20000"],
        cwd=CHECKOUT, env=environment_of(patient), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with ThreadPoolExecutor(4) as clients:
            writing = [clients.submit(write, item_id) for item_id in items]
            try:
                wait_until(lambda: api.get("/users/100").is_success, "the import is under way", 60)
                report = examine(CHECKS, patient)
            finally:
                reports.append(Report())
    finally:
        seeding.kill()
        seeding.wait()
    assert sum(done.result() for done in writing) > 0
    assert_healthy(report)


def test_a_check_that_hangs_or_fails_is_a_finding_and_hides_no_other(
    patient: ProjectorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "MARGIN_SECONDS", -patient.connect_timeout_seconds + 2.0)
    with psycopg.connect(patient.database_url.get_secret_value()) as connection:

        def hang(settings: ProjectorSettings) -> list[Finding]:
            connection.execute("SELECT pg_sleep(600)")
            return []

        def fail(settings: ProjectorSettings) -> list[Finding]:
            raise ZeroDivisionError("a bug")

        def find(settings: ProjectorSettings) -> list[Finding]:
            return [Finding("a cause", "a remedy", Severity.WARNING)]

        def see_nothing(settings: ProjectorSettings) -> list[Finding]:
            raise NotSeenError("not from here")

        checks = [
            Check("hanging", hang),
            Check("failing", fail),
            Check("finding", find),
            Check("blind", see_nothing),
            Check("needing", find, ("finding", "failing")),
            Check("needing less", find, ("finding", "blind")),
        ]
        report = examine(checks, patient)
        connection.cancel_safe()

    assert [findings[0].cause for findings in report.findings.values()] == [
        "this check gave no answer within 2 s",
        "this check failed: ZeroDivisionError: a bug",
        "a cause",
        "a cause",
    ]
    assert report.unchecked == {"blind": "not from here", "needing": "see failing"}
    assert not report.is_healthy


def test_servers_that_are_away_are_findings_and_no_crash(settings: ProjectorSettings) -> None:
    done = run_cli(
        settings, "doctor", "--json",
        DATABASE_URL=NOBODY, MONGO_URL="mongodb://127.0.0.1:1/?replicaSet=rs0", CONNECT_TIMEOUT_SECONDS="1",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["checked"] == ["PostgreSQL", "MongoDB"]
    assert len(answer["unchecked"]) == len(CHECKS) - 2
    postgres, mongo = answer["findings"]
    assert (postgres["check"], postgres["severity"]) == ("PostgreSQL", "error")
    assert postgres["cause"].startswith("PostgreSQL cannot be reached: OperationalError: connection failed")
    assert 'try `pg_isready -d "$DATABASE_URL"`' in postgres["remedy"]
    assert mongo["cause"].startswith("MongoDB cannot be reached: ServerSelectionTimeoutError: ")
    assert "kata:kata" not in done.stdout


def test_a_session_that_locks_a_table_is_named_although_checks_of_that_table_fail(
    patient: ProjectorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SERVER_MARGIN_SECONDS", -patient.batch_deadline_seconds)
    with psycopg.connect(patient.database_url.get_secret_value(), application_name="a migration") as connection:
        connection.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        report = examine(CHECKS, patient)
        assert report.findings["lag"][0].cause.startswith("this check failed: LockNotAvailable: ")
        (found,) = report.findings["transactions"]
        assert f"session {connection.info.backend_pid} (a migration, " in found.cause
        assert "AccessExclusiveLock on outbox" in found.cause
    assert [*report.checked, *report.unchecked] == [check.name for check in CHECKS]


def test_a_server_that_hangs_is_a_finding(own_servers: OwnServers) -> None:
    migrate(own_servers.settings)
    os.kill(own_servers.mongod.pid, signal.SIGSTOP)
    try:
        report = examine(CHECKS, own_servers.settings)
    finally:
        os.kill(own_servers.mongod.pid, signal.SIGCONT)
    assert report.findings["MongoDB"][0].cause.startswith("MongoDB cannot be reached: ")
    assert report.unchecked["clocks"] == "see MongoDB"
    assert {"migrations", "projectors", "notifications"} <= set(report.checked)


def test_a_finding_is_shown_as_readme_shows_it(settings: ProjectorSettings, outbox: Outbox) -> None:
    outbox.bulk(3)
    done = run_cli(settings, "doctor", DISK_FREE_PERCENT_LEAST="0")
    assert (done.returncode, done.stderr) == (1, "")
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("```console\n$ projector doctor\n")[2].partition("...\n```")[0]
    assert shown
    assert done.stdout.startswith(shown)


def test_at_a_glance(
    start_projector: Callable[..., ProjectorProcess], start_api: Callable[[], ApiProcess], patient: ProjectorSettings
) -> None:
    projector, api = start_projector(patient), start_api()
    projector.wait_ready()
    ports = {
        "localhost:8001": f"127.0.0.1:{projector.http.base_url.port}",
        "localhost:8000": f"127.0.0.1:{api.client.base_url.port}",
    }

    done = run_procedure(procedure("At a glance"), environment_of(patient), replaced=ports)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("Healthy: nothing found.")


def test_the_runbook_explains_every_check() -> None:
    table = RUNBOOK.partition("## What `projector doctor` looks at")[2].partition("\n## ")[0]
    for check in CHECKS:
        assert re.search(rf"^\| .*`{re.escape(check.name)}`", table, re.MULTILINE), check.name
