"""`kata up`, `status` and `down` with the real API and the real projectors, as scripts use them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from devstack.layout import CHECKOUT
from devstack.scratch import scratch_directory

SECONDS = 90.0
ANY_PORT = ("--api-port", "0", "--projector-port", "0")


@dataclass(frozen=True)
class Kata:
    """The command line on one data directory."""

    data: Path

    def command(self, *arguments: str) -> list[str]:
        """The words to execute."""
        return [sys.executable, "-m", "devstack.cli", *arguments, "--data-dir", str(self.data)]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Execute it to its end."""
        return subprocess.run(
            self.command(*arguments), cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    def up(self, *arguments: str) -> dict[str, Any]:
        """Start everything in the background; its addresses."""
        finished = self.run("up", "--detach", "--json", *ANY_PORT, *arguments)
        assert finished.returncode == 0, finished.stderr
        return dict(json.loads(finished.stdout.splitlines()[-1]))

    def processes(self) -> list[dict[str, Any]]:
        """What status shows."""
        return list(json.loads(self.run("status", "--json").stdout.splitlines()[-1])["processes"])


@pytest.fixture
def kata() -> Iterator[Kata]:
    """An empty data directory; whatever runs on it at the end is stopped."""
    with scratch_directory() as directory:
        kata = Kata(directory / "data")
        try:
            yield kata
        finally:
            kata.run("down")


def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether no living process has this number; a zombie is dead."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def write_an_item(api: str, email: str) -> str:
    """Create a user and an item; the item's URL."""
    user = httpx.post(f"{api}/users", json={"name": "Ada", "email": email}, timeout=30)
    assert user.status_code == 201, user.text
    body = {"name": "Lamp", "sell_in": 3, "quality": 4, "owner_id": user.json()["id"], "tags": ["new"]}
    item = httpx.post(f"{api}/items", json=body, timeout=30)
    assert item.status_code == 201, item.text
    return f"/items/{item.json()['id']}"


def test_from_up_to_down_and_up_again_with_the_data_of_before(kata: Kata) -> None:
    addresses = kata.up("--projectors", "2")
    assert list(addresses) == ["api", "projector", "projectors", "postgres", "mongo"]
    item = write_an_item(addresses["api"], "ada@example.com")
    before = httpx.get(addresses["api"] + item)
    assert before.json()["owner"]["email"] == "ada@example.com"
    for url in (addresses["api"], *addresses["projectors"]):
        assert httpx.get(f"{url}/ready").status_code == 200

    processes = kata.processes()
    assert sorted(process["role"] for process in processes) == ["api", "mongo", "postgres", "projector", "projector"]
    assert {process["state"] for process in processes} == {"running"}

    assert kata.run("down").returncode == 0
    assert [process for process in processes if not is_gone(process["pid"])] == []
    assert kata.run("status").returncode == 1
    assert kata.processes() == []

    again = kata.up()
    assert again["postgres"] == addresses["postgres"]
    assert again["mongo"] == addresses["mongo"]
    assert httpx.get(again["api"] + item).json() == before.json()


def test_it_migrates_unless_the_database_is_where_these_migrations_left_it(kata: Kata) -> None:
    migrations = kata.data / "logs" / "migrations.log"
    item = write_an_item(kata.up()["api"], "ada@example.com")
    assert migrations.exists()
    kata.run("down")

    api = kata.up()["api"]
    assert not migrations.exists()
    assert httpx.get(api + item).status_code == 200
    kata.run("down")

    (kata.data / "prepared").write_text("by another checkout")
    api = kata.up()["api"]
    assert migrations.exists()
    assert httpx.get(api + item).status_code == 200


def test_writes_are_visible_again_after_a_projector_was_killed(kata: Kata) -> None:
    api = kata.up()["api"]
    write_an_item(api, "before@example.com")
    (projector,) = (process for process in kata.processes() if process["role"] == "projector")
    os.kill(projector["pid"], signal.SIGKILL)
    eventually(lambda: kata.run("status").returncode == 0, "the projector runs again")
    item = write_an_item(api, "after@example.com")
    assert httpx.get(api + item).status_code == 200


def test_killed_in_the_foreground_it_leaves_nothing_and_loses_nothing(kata: Kata) -> None:
    with subprocess.Popen(
        kata.command("up", "--json", *ANY_PORT), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        addresses = json.loads(up.stdout.readline())
        item = write_an_item(addresses["api"], "ada@example.com")
        pids = [process["pid"] for process in kata.processes()]
        up.kill()
    eventually(lambda: all(map(is_gone, pids)), "its processes end")
    assert kata.processes() == []
    assert httpx.get(kata.up()["api"] + item).status_code == 200


def test_stopped_while_writes_are_made_it_stops_cleanly(kata: Kata) -> None:
    with subprocess.Popen(
        kata.command("up", "--json", *ANY_PORT), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    ) as up:
        assert up.stdout is not None
        addresses = json.loads(up.stdout.readline())
        for number in range(20):
            user = {"name": "Ada", "email": f"{number}@example.com"}
            httpx.post(f"{addresses['api']}/users", json=user, headers={"Prefer": "respond-async"})
        pids = [process["pid"] for process in kata.processes()]
        up.send_signal(signal.SIGINT)
        assert up.wait(SECONDS) == 130
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert len(httpx.get(f"{kata.up()['api']}/users").json()) == 20


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("up", "--help")])
def test_what_needs_no_server_answers_at_once(arguments: tuple[str, ...]) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "devstack.cli", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert finished.returncode == 0
    assert "kata" in finished.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("upp",), ("up", "--projectors", "0"), ("up", "--api-port", "70000"), ("status", "--nonsense")]
)
def test_a_usage_error_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "devstack.cli", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert finished.returncode == 2
    assert len(finished.stderr.splitlines()) == 1
