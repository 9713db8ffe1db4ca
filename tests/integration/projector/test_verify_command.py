"""`projector verify`: what it says, what it keeps, what it repairs, and what a sample finds."""

import json
from random import Random
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from projector import repair
from projector.process import Projector
from projector.projections.registry import PROJECTIONS
from projector.settings import ProjectorSettings
from projector.verification_run import verify
from projector.verify import sample
from shared.mongo import Document
from tests.fixtures.relays import drain
from tests.fixtures.runbook import procedure, run_procedure
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ReadModels, Rows, environment_of, run_cli

BOTH = ("user", "item")
NONE = {"missing": 0, "stale": 0, "orphaned": 0, "different": 0}


@pytest.fixture
def shop(rows: Rows, shown: ReadModels) -> tuple[list[int], list[int]]:
    """Three users with two items each, in rows and documents alike; their ids."""
    users = [rows.user(version=2) for _ in range(3)]
    items = [rows.item(user_id, version=3, tags=("a", "b")) for user_id in users for _ in range(2)]
    shown.fill()
    return users, items


@pytest.fixture
def command(settings: ProjectorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process read this test's settings."""
    monkeypatch.setattr(ProjectorSettings, "load_or_exit", lambda: settings)


def kept(postgres: psycopg.Connection) -> list[Any]:
    return postgres.execute(
        "SELECT aggregate_type, kind, compared, missing, stale, orphaned, different FROM verifications ORDER BY id"
    ).fetchall()


def test_verify_says_what_differs_keeps_it_and_exits_with_1(
    shop: tuple[list[int], list[int]], settings: ProjectorSettings, shown: ReadModels
) -> None:
    done = run_cli(settings, "verify", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "drift": 0, "users": {"compared": 3, **NONE}, "items": {"compared": 6, **NONE},
    }  # fmt: skip

    shown.lose("user", *shop[0])
    done = run_cli(settings, "verify", "users")
    assert done.returncode == 1
    assert done.stdout == "Drift: 3 users missing; compared 3 users. `--repair` mends it.\n"
    assert f"user {shop[0][0]} is missing: row version 2, document version None\n" in done.stderr
    assert kept(shown.connection) == [
        ("item", "whole", 6, 0, 0, 0, 0), ("user", "whole", 3, 0, 0, 0, 0), ("user", "whole", 3, 3, 0, 0, 0),
    ]  # fmt: skip


def test_deep_and_repair_are_options_and_what_got_a_repair_is_no_finding(
    shop: tuple[list[int], list[int]], command: None, settings: ProjectorSettings, shown: ReadModels
) -> None:
    _, items = shop
    shown.spoil("item", items[0], quality=50)
    assert verify(BOTH, deep=False, repair=False, size=None).is_good
    assert verify(BOTH, deep=True, repair=False, size=None).drift == 1
    shown.lose("item", *items[1:])

    done = run_cli(settings, "verify", "--deep", "--repair", "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert (answer["drift"], answer["repaired"], answer["items"]["missing"]) == (6, 6, 5)
    assert f"item {items[0]} is different in quality: row version 3, document version 3\n" in done.stderr
    assert shown.document("item", items[1]) == {}

    # Nothing is repaired twice: what has a repair on its way is in flight.
    again = verify(BOTH, deep=True, repair=True, size=None)
    assert (again.drift, again.repaired, again.describe()) == (0, 0, "No drift: compared 3 users, 6 items.")
    drain(shown.relay)
    assert verify(BOTH, deep=True, repair=False, size=None).examples == []


def test_a_version_above_which_no_row_can_be_raised_is_left_and_said(
    shop: tuple[list[int], list[int]], command: None, shown: ReadModels
) -> None:
    users, items = shop
    shown.spoil("user", users[0], version=2**31 - 1)
    shown.spoil("item", items[5], version=2**40)
    shown.spoil("item", items[2], name="wrong")
    found = verify(BOTH, deep=True, repair=True, size=None)
    assert (found.drift, found.repaired, found.is_good) == (3, 1, False)
    assert found.describe().endswith("The others show a version that no row can have: `projector replay` mends them.")
    drain(shown.relay)
    assert verify(BOTH, deep=True, repair=False, size=None).drift == 2


def spoilt(document: Document, what: str) -> Document | None:
    """Return what somebody made of a document, None for nothing."""
    changes: dict[str, dict[str, Any]] = {
        "older": {"version": 1},
        "newer": {"version": 50},
        "renamed": {"name": "wrong"},
        "its owner older": {"owner": document.get("owner", {}) | {"version": 1, "name": "old"}},
        "its owner newer": {"owner": document.get("owner", {}) | {"version": 70, "name": "new"}},
        "its owner another": {"owner": document.get("owner", {}) | {"id": 999}},
        "its owner's name": {"owner": document.get("owner", {}) | {"name": "wrong"}},
    }
    if what == "lost":
        return None
    if what in ("tombstone", "newer tombstone"):
        return {
            "_id": document["_id"],
            "version": document["version"] + (what != "tombstone"),
            "deleted_at": document["created_at"],
        }
    change = changes[what]
    return document | {name: value for name, value in change.items() if name in document}


SPOILS = (
    "lost", "older", "newer", "renamed", "tombstone", "newer tombstone", "its owner older", "its owner newer",
    "its owner another", "its owner's name",
)  # fmt: skip


@pytest.mark.parametrize("batch", [2, 500])
@hypothesis_settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_after_repair_and_drain_a_deep_verify_is_clean_whatever_was_spoilt(
    shop: tuple[list[int], list[int]],
    command: None,
    shown: ReadModels,
    monkeypatch: pytest.MonkeyPatch,
    data: st.DataObject,
    batch: int,
) -> None:
    monkeypatch.setattr(repair, "BATCH", batch)
    for aggregate_type, ids in zip(BOTH, shop, strict=True):
        for aggregate_id in ids:
            what = data.draw(st.sampled_from(("nothing", *SPOILS)))
            if what == "nothing":
                continue
            document = shown.document(aggregate_type, aggregate_id)
            shown.lose(aggregate_type, aggregate_id)
            if made := spoilt(document, what):
                shown.collection(aggregate_type).insert_one(made)
    orphans = data.draw(st.integers(min_value=0, max_value=2))
    for n in range(orphans):
        user = {"_id": 5000 + n, "name": "x", "email": "x", "version": 3}
        shown.collection("user").replace_one(
            {"_id": user["_id"]},
            user | dict.fromkeys(("created_at", "updated_at"), data.draw(st.datetimes())),
            upsert=True,
        )

    found = verify(BOTH, deep=True, repair=True, size=None)
    assert found.repaired == found.drift
    drain(shown.relay)
    assert verify(BOTH, deep=True, repair=False, size=None).examples == []


@pytest.fixture
def many(rows: Rows, shown: ReadModels) -> list[int]:
    """More users than a sample looks at, with gaps between their ids."""
    ids = [rows.user() for _ in range(300)]
    shown.connection.execute("DELETE FROM users WHERE id % 3 = 0")
    shown.fill()
    return [i for i in ids if i % 3]


def sampled(shown: ReadModels, size: int, seed: int) -> tuple[int, list[int]]:
    """Return how many were compared, and the ids of those that differ."""
    counted: list[int] = []
    users, random = shown.collection("user"), Random(seed)  # noqa: S311 - the same in every run
    found = list(sample(shown.connection, users, PROJECTIONS["user"], size, on_page=counted.append, random=random))
    return sum(counted), [drift.aggregate_id for drift in found]


def test_a_sample_finds_rows_without_documents_and_documents_without_rows(many: list[int], shown: ReadModels) -> None:
    shown.lose("user", *many)
    template = {"name": "x", "email": "x", "version": 1, "created_at": None, "updated_at": None}
    orphans = [{"_id": n, **template} for n in range(2000, 2200)]
    shown.database.command("collMod", "users_read", validator={})
    shown.collection("user").insert_many(orphans)

    compared, found = sampled(shown, 100, seed=1)
    assert 50 <= compared <= 100
    assert {i < 1000 for i in found} == {True, False}
    assert len(found) == len(set(found)) == compared


def test_a_sample_of_more_than_there_is_compares_everything_once(many: list[int], shown: ReadModels) -> None:
    shown.lose("user", many[0], many[-1])
    assert sampled(shown, 1000, seed=1) == (len(many), [many[0], many[-1]])


def test_a_sample_of_nothing_finds_nothing(shown: ReadModels) -> None:
    assert sampled(shown, 10, seed=1) == (0, [])


def test_the_command_takes_a_sample_and_keeps_it_as_one(
    many: list[int], settings: ProjectorSettings, shown: ReadModels
) -> None:
    shown.lose("user", *many)
    done = run_cli(settings, "verify", "users", "--sample", "100", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["drift"] == answer["users"]["missing"] == answer["users"]["compared"] > 0
    assert done.stderr.splitlines()[-1] == f"and {answer['drift'] - 20} more"
    assert kept(shown.connection)[0][:2] == ("user", "sample")
    assert run_cli(settings, "verify", "--sample", "0").returncode == 2


def test_verify_refuses_read_models_of_another_installation(
    shop: tuple[list[int], list[int]], settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    postgres.execute("UPDATE installation SET id = gen_random_uuid()")
    done = run_cli(settings, "verify")
    assert done.returncode == 1
    assert "python api/scripts/clean_mongo.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_runbooks_procedure_mends_drift_while_a_projector_runs(
    shop: tuple[list[int], list[int]], settings: ProjectorSettings, shown: ReadModels, running_projector: Projector
) -> None:
    _, items = shop
    before = shown.document("item", items[0])
    shown.spoil("item", items[0], name="wrong")
    shown.lose("item", items[1])

    done = run_procedure(procedure("Drift: `projector verify` exits with 1"), environment_of(settings))

    assert done.returncode == 0, done.stderr
    assert "Drift: 1 items missing, 1 items different" in done.stdout
    wait_until(lambda: shown.document("item", items[1]), "what was missing is back")
    wait_until(lambda: shown.document("item", items[0]) == before, "what was different is mended")
