"""Is the database at the newest migration of this code?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
from alembic.script import ScriptDirectory

from projector.doctor.connection import ask
from projector.doctor.finding import Finding, NotSeenError, Severity
from projector.settings import ProjectorSettings

SCRIPTS: Final = Path(__file__).parents[2] / "alembic"

REVISIONS: Final = "SELECT version_num FROM alembic_version"


def be_at_head(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare the database's revision to the newest of the scripts beside this code."""
    if not (SCRIPTS / "env.py").exists():
        raise NotSeenError("the migrations are not beside this code")
    scripts = ScriptDirectory(str(SCRIPTS))
    head = scripts.get_current_head()
    try:
        found = [row["version_num"] for row in ask(settings, REVISIONS)]
    except psycopg.errors.UndefinedTable:
        found = []
    if found == [head]:
        return
    details = {"database": found, "code": head}
    if not found:
        yield Finding("the write model has no tables", "run `alembic upgrade head`", details=details)
    elif set(found) <= {script.revision for script in scripts.walk_revisions()}:
        yield Finding(
            f"migrations are behind: the database is at {found[0]}, this code needs {head}",
            "run `alembic upgrade head`",
            details=details,
        )
    else:
        yield Finding(
            f"the database is at migration {found[0]}, which this code does not know: it is older than the database",
            "deploy the code that the migration came with here, too; or run `alembic downgrade` from there",
            Severity.WARNING,
            details,
        )
