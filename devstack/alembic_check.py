"""Do the migrations make what the models say? `alembic check` on a database of its own, for `make check`.

A throw-away PostgreSQL is started, brought to the newest revision, compared, and removed.
"""

import subprocess
import sys

from devstack.applications import inherited_environment
from devstack.layout import CHECKOUT
from devstack.postgres import Postgres
from devstack.scratch import scratch_directory


def main() -> int:
    """Run `alembic upgrade head` and `alembic check`; return the exit code of the first that fails."""
    settings = {"fsync": "off"}  # what is thrown away need not survive a power cut
    with scratch_directory() as directory, Postgres.start(directory / "postgres", settings=settings) as postgres:
        environment = inherited_environment({"DATABASE_URL": postgres.dsn, "MIGRATION_DATABASE_URL": ""})
        for arguments in (("upgrade", "head"), ("check",)):
            command = [sys.executable, "-m", "alembic", *arguments]
            done = subprocess.run(command, cwd=CHECKOUT, env=environment, check=False)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
