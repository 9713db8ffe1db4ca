"""`projector status` as an operator reads it: a few lines, printed once, or again every second with --watch."""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Final, NoReturn

import psycopg
from rich.console import Console
from rich.live import Live
from rich.text import Text

from projector.cli_answers import print_answer
from projector.settings import ProjectorSettings
from projector.status import DriftFound, Overview, ProjectorProcess, ReplayProgress, read_overview, throughput
from projector.subscriber import describe

EVERY_SECONDS: Final = 1.0
UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def watch(settings: ProjectorSettings, console: Console, *, as_json: bool) -> NoReturn:
    """Show the installation every second until interrupted; a server that is away is waited for.

    On a terminal the same lines change in place, anywhere else one line follows the other.
    """
    with Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else nullcontext() as live:
        for now, rate in _looks(settings):
            lines = lines_of(now, rate) if isinstance(now, Overview) else [now]
            if live:
                live.update(Text("\n".join(lines)), refresh=True)
            elif isinstance(now, Overview):
                print_answer(as_json, now.as_json(), "; ".join(lines))
            else:
                sys.stderr.write(f"{now}\n")
            sys.stdout.flush()
            time.sleep(EVERY_SECONDS)
    raise AssertionError("it is watched until interrupted")


def lines_of(overview: Overview, rate: float | None = None) -> list[str]:
    """Return the installation in lines of text; `rate` is the messages settled per second, where it is known."""
    now = overview.outbox
    settling = "" if rate is None else f", settling {rate:,.0f}/s"
    unsettled = f"backlog {now.backlog:,}, lag {now.lag_seconds:.1f} s, retrying {now.failures:,}"
    return [
        f"{unsettled}, dead letters {now.dead_letters:,}{settling}",
        *(map(_projector, overview.projectors) if overview.projectors else ["no projector was at work lately"]),
        *map(_replay, overview.replays),
        *map(_drift, overview.drift),
    ]


def _looks(settings: ProjectorSettings) -> Iterator[tuple[Overview | str, float | None]]:
    """Yield overviews with the throughput since the one before, or a sentence while PostgreSQL is away."""
    before: Overview | None = None
    while True:
        try:
            now = read_overview(settings)
        except psycopg.OperationalError as error:
            yield f"PostgreSQL could not be reached: {describe(error)}", None
        else:
            yield now, throughput(before, now) if before else None
            before = now


def _projector(row: ProjectorProcess) -> str:
    batch = "" if row.batch_seconds is None else f", last batch {row.batch_seconds:.3f} s"
    return f"{row.name}: {row.state}, heard of {_age(row.heartbeat_age_seconds)} ago, settled {row.settled:,}{batch}"


def _replay(row: ReplayProgress) -> str:
    name = f"replay {row.id} of {row.aggregate_type}s: {row.state}"
    if row.is_at_work:
        share = min(1.0, row.copied / row.expected) if row.expected else 1.0
        return f"{name}, {row.copied:,} of {row.expected:,} rows ({share:.0%})"
    error = f": {row.error}" if row.error else ""
    return f"{name} {_age(row.idle_seconds)} ago{error}"


def _drift(row: DriftFound) -> str:
    kinds = {kind: getattr(row, kind) for kind in ("missing", "stale", "orphaned", "different")}
    found = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count) or "no drift"
    compared = f"{row.compared:,} compared" + (" in a sample" if row.kind == "sample" else "")
    return f"verify of {row.aggregate_type}s: {found}, {compared} {_age(row.age_seconds)} ago"


def _age(seconds: float) -> str:
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
