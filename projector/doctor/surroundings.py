"""What is around the servers: clocks, disks, and whether notifications get through."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
from psycopg import sql

from projector.doctor.connection import ask, connect_postgres, mongo_client
from projector.doctor.finding import Finding, NotSeenError, Severity
from projector.settings import ProjectorSettings

# Of clocks that are kept the difference is milliseconds.
APART_SECONDS: Final = 2.0
SAMPLES: Final = 3

ARRIVAL_SECONDS: Final = 5.0

DATA_DIRECTORY: Final = """
    SELECT current_setting('data_directory', true) AS path,
           (SELECT system_identifier FROM pg_control_system()) AS system_identifier
"""


def receive_notifications(settings: ProjectorSettings) -> Iterator[Finding]:
    """Listen on one connection and notify on another, as API and projector do for each other."""
    channel = f"kata_doctor_{uuid4().hex}"
    with connect_postgres(settings) as listener, connect_postgres(settings) as speaker:
        listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        speaker.execute(sql.SQL("NOTIFY {}").format(sql.Identifier(channel)))
        if not list(listener.notifies(timeout=ARRIVAL_SECONDS, stop_after=1)):
            yield Finding(
                "notifications do not arrive: writes become visible only with the next poll, and clients wait longer",
                "LISTEN does not pass a pooler of transactions or statements: name PostgreSQL itself in DATABASE_URL, "
                "or a pooler of sessions",
            )


def agree_on_the_time(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare the clocks of PostgreSQL and MongoDB to this machine's."""
    with connect_postgres(settings) as connection, mongo_client(settings) as client:

        def ask_postgres() -> float:
            row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
            return float(row[0]) if row else 0.0

        def ask_mongo() -> float:
            return float(client.admin.command("hello")["localTime"].timestamp())

        ahead = {"PostgreSQL": _ahead(ask_postgres), "MongoDB": _ahead(ask_mongo)}
    apart = {name: round(seconds, 3) for name, seconds in ahead.items() if abs(seconds) > APART_SECONDS}
    if apart:
        yield Finding(
            f"clocks are apart: {_differences(apart)}",
            "let NTP keep the clock of every machine: `timedatectl set-ntp true` there, `timedatectl` shows its state",
            Severity.WARNING,
            {"ahead_seconds": apart},
        )


def have_disk_left_for_mongo(settings: ProjectorSettings) -> Iterator[Finding]:
    """Ask MongoDB how full the file system of its data is."""
    with mongo_client(settings) as client:
        answer = client[settings.mongo_database].command("dbStats")
    if not answer.get("fsTotalSize"):
        raise NotSeenError("MongoDB tells it of a database that exists, and there are no read models yet")
    free = answer["fsTotalSize"] - answer["fsUsedSize"]
    yield from _disk("MongoDB", settings, free=free, total=answer["fsTotalSize"])


def have_disk_left_for_postgres(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look at the file system of PostgreSQL's data, which SQL does not tell: only where it is on this machine."""
    try:
        (row,) = ask(settings.for_maintenance(), DATA_DIRECTORY)
    except psycopg.errors.InsufficientPrivilege as error:
        raise NotSeenError("PostgreSQL tells where its data are to members of pg_monitor alone") from error
    path = row["path"] and Path(row["path"])
    if not path or not _is_cluster(path, row["system_identifier"]):
        raise NotSeenError("PostgreSQL does not tell by SQL, and its data are not to be seen from here")
    usage = shutil.disk_usage(path)
    yield from _disk("PostgreSQL", settings, free=usage.free, total=usage.total)


def _differences(apart: Mapping[str, float]) -> str:
    if len(apart) > 1 and max(apart.values()) - min(apart.values()) <= APART_SECONDS:
        seconds = next(iter(apart.values()))
        servers = " and ".join(f"{name}'s" for name in apart)
        return f"this machine's is {abs(seconds):.1f} s {_where(-seconds)} {servers}"
    return " and ".join(
        f"{name}'s is {abs(seconds):.1f} s {_where(seconds)} this machine's" for name, seconds in apart.items()
    )


def _where(seconds: float) -> str:
    return "ahead of" if seconds > 0 else "behind"


def _ahead(ask_time: Callable[[], float]) -> float:
    """Return by how many seconds a clock is ahead for certain: the way there and back took time itself."""
    offsets = []
    for _ in range(SAMPLES):
        before = time.time()
        theirs = ask_time()
        after = time.time()
        offsets.append((after - before, theirs - before, theirs - after))
    _, most, least = min(offsets)
    return least if least > 0 else min(most, 0.0)


def _is_cluster(path: Path, system_identifier: int) -> bool:
    # src/include/catalog/pg_control.h: the file begins with the system identifier, in the machine's byte order.
    try:
        with (path / "global" / "pg_control").open("rb") as control:
            first = control.read(8)
    except OSError:
        return False
    return first == system_identifier.to_bytes(8, sys.byteorder)


def _disk(server: str, settings: ProjectorSettings, *, free: float, total: float) -> Iterator[Finding]:
    percent = 100 * free / total if total else 0.0
    if percent < settings.disk_free_percent_least:
        yield Finding(
            f"the disk of {server}'s data is nearly full: {percent:.1f}% of {total / 1e9:,.0f} GB are free, at least "
            f"{settings.disk_free_percent_least:g}% should be",
            "make room or enlarge it, before the server stops taking writes; replication slots that nobody reads keep "
            "log (see the findings), and replays keep a second copy of a read model while they run",
            Severity.WARNING,
            {"server": server, "free_bytes": int(free), "total_bytes": int(total)},
        )
