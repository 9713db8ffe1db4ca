"""The owner's full reset, in README's order, while API and projectors keep running."""

import json
import sys
from typing import Any

import httpx

from devstack.instance import Instance
from tests.fixtures.runbook import procedure, run_procedure
from tests.fixtures.waiting import wait_until

DOWNGRADE = ("alembic", "downgrade", "base")
UPGRADE = ("alembic", "upgrade", "head")
CLEAN = (sys.executable, "api/scripts/clean_mongo.py")
SEED = (sys.executable, "api/scripts/seed.py")
USER = {"name": "Ada", "email": "ada@example.org"}


def run(kata: Instance, *command: str, code: int = 0) -> str:
    done = kata.run(command)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def status(kata: Instance) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(kata, "projector", "status", "--json").splitlines()[-1])
    return found


def ready(url: str) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{url}/ready", timeout=10).json()
    return body


def reasons(kata: Instance) -> str:
    return " ".join(lane["reason"] for url in kata.projectors for lane in ready(url)["lanes"])


def seed_and_wait(kata: Instance) -> None:
    run(kata, *SEED)
    wait_until(lambda: status(kata)["backlog"] == 0, "the backlog is gone")


def test_a_full_reset_ends_without_drift_though_ids_start_again_at_1(kata: Instance) -> None:
    seed_and_wait(kata)
    before = httpx.get(f"{kata.api}/items/1", timeout=10).json()

    run(kata, *DOWNGRADE)
    wait_until(lambda: "alembic upgrade head" in reasons(kata), "the projectors wait for the tables")
    refused = httpx.post(f"{kata.api}/users", json=USER, timeout=10)
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert "Emptied" in run(kata, *CLEAN)
    run(kata, *UPGRADE)
    seed_and_wait(kata)

    assert run(kata, "projector", "verify").startswith("No drift")
    after = httpx.get(f"{kata.api}/items/1", timeout=10).json()
    assert after["name"] == before["name"]
    assert after["created_at"] > before["created_at"]
    for url in kata.projectors:
        wait_until(lambda url=url: ready(url)["status"] == "ready", "the projectors are ready")


def test_the_runbooks_commands_reset_everything(kata: Instance) -> None:
    done = run_procedure(procedure("The owner's full reset"), kata.environment)

    assert done.returncode == 0, done.stdout + done.stderr
    for url in kata.projectors:
        wait_until(lambda url=url: ready(url)["status"] == "ready", "the projectors are ready")
    wait_until(lambda: status(kata)["backlog"] == 0, "the backlog is gone")
    assert run(kata, "projector", "verify").startswith("No drift")


def test_leaving_clean_mongo_out_is_noticed_and_the_message_names_the_command(kata: Instance) -> None:
    run(kata, *DOWNGRADE)
    run(kata, *UPGRADE)
    run(kata, *SEED)

    wait_until(lambda: "another installation" in reasons(kata), "the projectors refuse the read models")
    assert "python api/scripts/clean_mongo.py" in reasons(kata)
    assert "projector replay" in reasons(kata)
    assert all(httpx.get(f"{url}/ready", timeout=10).status_code == 503 for url in kata.projectors)
    assert status(kata)["backlog"] > 0
    assert "another installation" in kata.run(("projector", "verify")).stderr
    waiting = httpx.post(f"{kata.api}/users", json=USER, headers={"Prefer": "wait=0"}, timeout=10)
    assert (waiting.status_code, waiting.headers["Projection-Status"]) == (202, "pending")

    done = run_procedure(
        procedure("`/ready` says: the read models belong to another installation, are of unknown origin, or are gone"),
        kata.environment,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("No drift")
    wait_until(lambda: status(kata)["backlog"] == 0, "the backlog is gone")
    assert run(kata, "projector", "verify").startswith("No drift")
