"""`make bench [NAME=drain] [QUICK=1]`: every benchmark, one after the other, in this machine's own time.

What was measured is kept in benchmarks/results/; run again after an interruption, it goes on with what is missing of
this commit.
`--fresh` measures everything anew. `--json` prints the results as one object at the end.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from benchmarks.speed.benchmark import Result, Scale, named
from benchmarks.speed.registry import BENCHMARKS
from benchmarks.speed.report import RESULTS, table, write_section
from benchmarks.speed.servers import ROOT, Servers

PACKAGES: Final = ("fastapi", "uvicorn", "sqlalchemy", "psycopg", "pymongo")
# A quick run works on one so manieth of the data.
QUICK_DATA: Final = 40


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Benchmarks, or the beginnings of their names; none: all")
    ] = None,
    *,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A glance at everything in five minutes: little data, two rounds; results are not kept"
        ),
    ] = False,
    part: Annotated[int, typer.Option(min=1, help="On one so manieth of the data, which the report says")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what was measured before")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object as the last line")] = False,
) -> None:
    """Measure, and print ratios with their 95% intervals."""
    console = Console(stderr=True)
    scale = Scale(quick, part=QUICK_DATA if quick else part)
    try:
        chosen = list(named(BENCHMARKS, names or []))
    except ValueError as error:
        console.print(str(error))
        raise typer.Exit(2) from error
    results: list[Result] = []
    found: Sequence[Result]
    with Servers() as servers:
        facts = {**servers.versions(), "Python": platform.python_version(), "commit": _commit()}
        facts |= {name: version(name) for name in PACKAGES}
        for benchmark in chosen:
            kept = RESULTS / f"{benchmark.name}.json"
            before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {"facts": None}
            # What was measured of another commit, or with other servers, is no result of this one.
            if before["facts"] == facts and not (fresh or quick or names):
                found = [Result.from_json(each) for each in before["results"]]
                results += found
                for each in found:
                    console.print(f"{each.name}: {each.value}, measured before")
                continue
            begun = time.monotonic()
            with console.status(benchmark.name) as status:
                found = benchmark.run(
                    benchmark, servers, scale, lambda said, b=benchmark: status.update(f"{b.name}: {said}")
                )
            if scale.part > 1:
                found = [replace(each, notes={"data": f"1/{scale.part}", **each.notes}) for each in found]
            results += found
            for each in found:
                console.print(f"{each.name}: {each.value}; target {each.target}: {each.verdict}")
            console.print(f"  took {time.monotonic() - begun:.0f} s")
            if not quick:
                RESULTS.mkdir(exist_ok=True)
                measured = {"facts": facts, "results": [each.to_json() for each in found]}
                kept.write_text(_dumped(measured), encoding="utf-8")
    if not quick:
        write_section([benchmark.name for benchmark in BENCHMARKS])
    sys.stdout.write(table(results) + "\n")
    if as_json:
        sys.stdout.write(json.dumps({"facts": facts, "results": [each.to_json() for each in results]}) + "\n")


def _dumped(found: Any) -> str:
    return json.dumps(found, indent=1) + "\n"


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    typer.run(bench)
