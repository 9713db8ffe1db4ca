"""The benchmarks run: a short form of `make bench QUICK=1`, one of each kind. What they come to is not asserted."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
ONE_OF_EACH: Final = ("drain-creates", "lag-idle", "post-1", "form-core", "get-1", "seed", "claim")


def test_one_of_each_kind_runs_to_its_end_and_changes_no_result() -> None:
    before = {path: path.read_bytes() for path in (ROOT / "benchmarks" / "results").iterdir()}
    command = [sys.executable, "-m", "benchmarks.speed", *ONE_OF_EACH, "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    results = {each["name"]: each for each in json.loads(done.stdout.splitlines()[-1])["results"]}
    assert set(results) == set(ONE_OF_EACH)
    assert all(len(each["pairs"]) >= 2 for each in results.values())
    assert {path: path.read_bytes() for path in (ROOT / "benchmarks" / "results").iterdir()} == before
