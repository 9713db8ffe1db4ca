"""The user a server runs as.

PostgreSQL refuses root, so root starts it as `nobody`; anybody else starts it as himself.

What that user can reach is found out by trying, not computed from modes: access lists and mounts count, too.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import ConfigurationError

UNPRIVILEGED_USER = "nobody"


@dataclass(frozen=True)
class Account:
    """A user to become before a server is executed."""

    name: str
    uid: int
    gid: int

    def can_enter(self, directory: Path) -> bool:
        """Whether this user can reach the directory and what lies in it."""
        return self._succeeds(["/usr/bin/env", "test", "-x", str(directory)])

    def can_run(self, program: Path) -> bool:
        """Whether this user can execute the program with all its libraries."""
        return self._succeeds([str(program), "--version"])

    def _succeeds(self, command: list[str]) -> bool:
        try:
            finished = subprocess.run(
                command,
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except PermissionError:
            return False
        return finished.returncode == 0


def unprivileged_account() -> Account | None:
    """The account that PostgreSQL has to run as, or None when the present user will do."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        message = (
            f"PostgreSQL refuses to run as root, and there is no user {UNPRIVILEGED_USER} to run it as:"
            f" add that user, or run kata as an ordinary one."
        )
        raise ConfigurationError(message) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
