"""`make costs`: where the time of each hot path goes, ranked, as processor time of each process for one operation.

Kept by commit in benchmarks/results/costs.json, so that a change is seen beside what was before it. Of an operation's
share in what runs by itself (polls, heartbeats, checkpoints) nothing is taken off. The lane's phases are wall time.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.request import urlopen

import psutil
import typer
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.speed import load, work
from benchmarks.speed.load import Request
from benchmarks.speed.servers import ROOT, Servers, Store
from benchmarks.speed.writing import new_item, with_an_owner

KEPT: Final = ROOT / "benchmarks" / "results" / "costs.json"
SECTION: Final = ROOT / "benchmarks" / "evidence" / "costs.md"
SECONDS: Final = 6.0
EVENTS: Final = 50_000
ITEMS: Final = 10_000
PORT: Final = "48611"

PROCESSES: Final = {"api.main": "API", "projector.cli": "projector", "postgres": "PostgreSQL", "mongod": "mongod"}
PHASES: Final = "kata_relay_phase_seconds"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a path costs: microseconds of the processor for one operation, by process."""

    path: str
    operations: int
    processes: dict[str, float]
    phases: dict[str, float]


def _processor_seconds() -> Counter[str]:
    found: Counter[str] = Counter()
    for process in psutil.process_iter(["name", "cmdline", "cpu_times"]):
        told = f"{process.info['name']} {' '.join(process.info['cmdline'] or [])}"
        name = next((name for part, name in PROCESSES.items() if part in told), None)
        if name and process.info["cpu_times"]:
            found[name] += process.info["cpu_times"].user + process.info["cpu_times"].system
    return found


def _phase_seconds() -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        sample.labels["phase"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"{PHASES}_sum"
    }


def cost_of(path: str, act: Callable[[], int]) -> Cost:
    """Return what each of the operations costs that `act` does and counts."""
    before, phases_before = _processor_seconds(), _phase_seconds()
    operations = act()
    after, phases = _processor_seconds(), _phase_seconds()
    spent = {name: (after[name] - before[name]) / operations * 1e6 for name in PROCESSES.values()}
    waited = {name: (phases[name] - phases_before.get(name, 0)) / operations * 1e6 for name in phases}
    return Cost(path, operations, spent, waited)


def measure(store: Store) -> list[Cost]:
    """Return the costs of every hot path."""
    found: list[Cost] = []
    with store.projector(PROJECTOR_HTTP_PORT=PORT), store.api() as url:
        with_an_owner(store)
        work.empty_items(store)
        work.insert_many(store.mongo["items_read"], work.documents(store.postgres, 10**9, ITEMS))
        numbers = iter(range(10**9))

        def get() -> Request:
            return Request("GET", f"/items/{10**9 + next(numbers) % ITEMS}", 200)

        def page() -> Request:
            return Request("GET", "/items?tag=devel::lang:7&limit=100", 200)

        requests = new_item()
        for path, clients, request in (
            ("POST /items, one client", 1, requests),
            ("POST /items, 16 clients", 16, requests),
            ("GET /items/{id}, one client", 1, get),
            ("GET /items/{id}, 64 clients", 64, get),
            ("GET /items, a page of 100 by tag, one client", 1, page),
        ):
            load.run(url, clients, request, seconds=SECONDS / 3)
            send = lambda clients=clients, request=request: len(load.run(url, clients, request, seconds=SECONDS).each)  # noqa: E731
            found.append(cost_of(path, send))
        for path, version in (("drain, a new item", 1), ("drain, an update", 2)):
            found.append(cost_of(path, lambda version=version: _drained(store, version)))
    return found


def _drained(store: Store, version: int) -> int:
    with work.held_back(store) as held:
        work.append_items(held, 2 * 10**9, EVENTS, version)
    work.drained_in(store, EVENTS)
    return EVENTS


def table(kept: dict[str, list[dict[str, object]]]) -> str:
    """Return the costs of every commit, those of a path together, the dearest process first."""
    rows = [
        "| path | commit | µs of processor time for one operation | µs in phases of the lane |",
        "|---|---|---|---|",
    ]
    by_path: dict[str, list[tuple[str, Cost]]] = {}
    for commit, costs in kept.items():
        for one in costs:
            cost = Cost(**one)  # type: ignore[arg-type] - as it was kept
            by_path.setdefault(cost.path, []).append((commit, cost))
    for path, costs in by_path.items():
        for commit, cost in costs:
            rows.append(f"| {path} | {commit} | {_ranked(cost.processes)} | {_ranked(cost.phases)} |")
    return "\n".join(rows)


def _ranked(found: dict[str, float]) -> str:
    ranked = sorted(found.items(), key=lambda each: -each[1])
    told = [f"{name} {figure:,.0f}" for name, figure in ranked if figure >= 1]
    return ", ".join(told)


def costs(
    label: Annotated[str, typer.Argument(help="Under which name to keep it: the commit")],
    into: Annotated[Path, typer.Option(help="The file in which it is kept")] = KEPT,
) -> None:
    """Measure what the hot paths cost, and write the section of EVIDENCE.md."""
    with Servers() as servers, servers.store() as store:
        measured = measure(store)
    kept = json.loads(into.read_text(encoding="utf-8")) if into.exists() else {}
    kept[label] = [asdict(cost) for cost in measured]
    into.parent.mkdir(exist_ok=True)
    into.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    SECTION.write_text(table(kept) + "\n", encoding="utf-8")
    sys.stdout.write(table(kept) + "\n")


if __name__ == "__main__":
    typer.run(costs)
