"""One overview of the whole installation, for `projector status`, the page and the metrics."""

import json
import subprocess
import sys

import psycopg

from projector.relay import Relay
from projector.settings import ProjectorSettings
from projector.status import read_overview, throughput
from projector.status_view import lines_of
from tests.fixtures.databases import ROOT
from tests.fixtures.relays import Outbox, drain
from tests.integration.projector.conftest import environment_of, run_cli

REPLAY = """
    INSERT INTO replays (aggregate_type, shadow, shadow_uuid, shape, state, cursor, copied, expected, ended_at)
    VALUES (%s, 'shadow', gen_random_uuid(), 1, %s, 0, %s, %s, %s)
"""
VERIFICATION = """
    INSERT INTO verifications (aggregate_type, kind, compared, missing, stale, orphaned, different, ended_at)
    VALUES (%s, %s, %s, %s, 0, 0, 0, clock_timestamp() - %s::interval)
"""
PROJECTOR = """
    INSERT INTO projectors (name, heartbeat, ended_at, settled, batch_seconds)
    VALUES (%s, clock_timestamp() - %s::interval, %s, %s, 0.25)
"""


def test_an_empty_installation_has_nothing_to_show(settings: ProjectorSettings) -> None:
    overview = read_overview(settings)
    assert lines_of(overview) == [
        "backlog 0, lag 0.0 s, retrying 0, dead letters 0",
        "no projector was at work lately",
    ]


def test_lanes_are_shown_as_the_process_they_belong_to(
    settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    for name, silent_for, ended, settled in (
        ("kata-projector a:1 lane 0", "0 s", None, 5),
        ("kata-projector a:1 lane 1", "0 s", None, 7),
        ("kata-projector b:2 lane 0", "0 s", None, 1),
        ("kata-projector b:2 lane 1", "3 minutes", None, 1),
        ("kata-projector c:3 lane 0", "3 minutes", "2026-01-01", 1),
        ("kata-projector d:4 lane 0", "2 hours", None, 1),
    ):
        postgres.execute(PROJECTOR, (name, silent_for, ended, settled))
    overview = read_overview(settings)
    assert [(row.name, row.lanes, row.state, row.settled) for row in overview.projectors] == [
        ("kata-projector a:1", 2, "at work", 12),
        ("kata-projector c:3", 1, "ended", 1),
        ("kata-projector b:2", 2, "silent", 2),
    ]
    assert "kata-projector c:3: ended, heard of 3 min ago, settled 1, last batch 0.250 s" in lines_of(overview)


def test_the_newest_replay_of_each_read_model_is_shown(
    settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    for values in (
        ("item", "failed", 1, 2, "2026-01-01"),
        ("user", "done", 3, 3, "2026-01-03"),
        ("item", "copying", 30, 40, None),
    ):
        postgres.execute(REPLAY, values)
    overview = read_overview(settings)
    item, user = overview.replays
    assert (item.is_at_work, user.is_at_work) == (True, False)
    assert f"replay {item.id} of items: copying, 30 of 40 rows (75%)" in lines_of(overview)
    assert f"replay {user.id} of users: done 0 s ago" in lines_of(overview)


def test_a_sample_without_drift_does_not_hide_what_the_whole_showed(
    settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    postgres.execute(VERIFICATION, ("item", "whole", 100, 3, "3 hours"))
    postgres.execute(VERIFICATION, ("item", "whole", 100, 2, "2 hours"))
    postgres.execute(VERIFICATION, ("item", "sample", 10, 0, "1 minute"))
    postgres.execute(VERIFICATION, ("user", "whole", 7, 0, "1 minute"))
    assert lines_of(read_overview(settings))[-2:] == [
        "verify of items: 2 missing, 10 compared in a sample 1 min ago",
        "verify of users: no drift, 7 compared 1 min ago",
    ]


def test_throughput_is_what_was_settled_between_two_overviews(
    settings: ProjectorSettings, postgres: psycopg.Connection
) -> None:
    postgres.execute(PROJECTOR, ("kata-projector a:1 lane 0", "0 s", None, 100))
    postgres.execute(PROJECTOR, ("kata-projector b:2 lane 0", "0 s", None, 100))
    before = read_overview(settings)
    postgres.execute("UPDATE projectors SET settled = 130 WHERE name LIKE %s", ("%a:1%",))
    postgres.execute("DELETE FROM projectors WHERE name LIKE %s", ("%b:2%",))
    postgres.execute(PROJECTOR, ("kata-projector c:3 lane 0", "0 s", None, 12))
    after = read_overview(settings)
    assert throughput(before, after) == 42 / (after.at - before.at).total_seconds()
    assert throughput(before, before) == 0


def test_status_prints_the_whole_installation_as_one_object(
    settings: ProjectorSettings, outbox: Outbox, relay: Relay
) -> None:
    outbox.bulk(3)
    drain(relay)
    shown = json.loads(run_cli(settings, "status", "--json").stdout.splitlines()[-1])
    assert [row["state"] for row in shown["projectors"]] == ["at work"]
    assert (shown["backlog"], shown["replays"], shown["drift"]) == (0, [], [])


def test_status_is_watched_until_interrupted(settings: ProjectorSettings, outbox: Outbox) -> None:
    outbox.bulk(3)
    watch = subprocess.Popen(
        [sys.executable, "-m", "projector.cli", "status", "--watch"],
        cwd=ROOT, env=environment_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert watch.stdout
        assert watch.stdout.readline().startswith("backlog 3, ")
        outbox.bulk(2, first=4)
        assert any(line.startswith("backlog 5, ") and "settling 0/s" in line for line in watch.stdout)
        watch.send_signal(2)
        _, error = watch.communicate(timeout=60)
        assert (watch.returncode, error) == (130, "interrupted\n")
    finally:
        watch.kill()
        watch.wait()
