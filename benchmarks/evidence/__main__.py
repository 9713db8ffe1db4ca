"""`make evidence`: run everything that EVIDENCE.md shows and write the document."""

import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from string import Template

import psycopg
from pymongo import MongoClient

from benchmarks import index_cost, tag_counts
from benchmarks.evidence import plans, real_input
from devstack.instance import Instance

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CONTAINERS = ROOT / "tests" / "containers" / "transcript.txt"
PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "psycopg", "pymongo")


def main() -> None:
    """Write EVIDENCE.md."""
    catalogue = _catalogue()
    with Instance(projectors=2) as kata:
        sections = {
            "versions": _versions(kata),
            "real_input": _said("the main job on the catalogue", lambda: real_input.show(kata, catalogue)),
            "mongo_plans": _said("MongoDB's plans", lambda: plans.show_mongo(kata)),
            "tag_counts": _said("the forms of /tags", lambda: tag_counts.show(kata.mongo)),
            "index_cost": _said("the write cost of each index", lambda: index_cost.show(kata.mongo)),
            "postgres_plans": _said("PostgreSQL's plans", lambda: plans.show_postgres(kata)),
            "containers": CONTAINERS.read_text(encoding="utf-8").strip(),
        }
    template = Template((HERE / "EVIDENCE.template.md").read_text(encoding="utf-8"))
    (ROOT / "EVIDENCE.md").write_text(template.substitute(_of_long_runs() | sections), encoding="utf-8")
    sys.stderr.write("EVIDENCE.md is written\n")


def _of_long_runs() -> dict[str, str]:
    """Return what the long runs wrote beside the template, each in a file named after its section."""
    results = [path for path in HERE.glob("*.md") if path.name != "EVIDENCE.template.md"]
    return {path.stem: path.read_text(encoding="utf-8").strip() for path in results}


def _said(what: str, show: Callable[[], str]) -> str:
    sys.stderr.write(f"{what} ...\n")
    return show()


def _catalogue() -> str:
    script = Path(__file__).parents[1] / "debian_catalogue.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    if not done.stdout:
        sys.exit("Debian's package index is empty: run `apt-get update` first")
    return done.stdout


def _versions(kata: Instance) -> str:
    with psycopg.connect(kata.postgres) as connection, MongoClient[dict[str, object]](kata.mongo) as client:
        postgres = connection.info.parameter_status("server_version")
        mongo = client.server_info()["version"]
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return f"PostgreSQL {postgres}, MongoDB {mongo}, Python {platform.python_version()}; {packages}."


if __name__ == "__main__":
    main()
