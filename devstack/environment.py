"""The environment of the database servers: nothing of the caller's that could change them.

PGDATA, PGOPTIONS or a strange locale must not reach a server. Where libraries are is the one thing that may: it is
how an ordinary user provides one that the system lacks.
"""

import os


def server_environment() -> dict[str, str]:
    """The variables that a server is started with."""
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **libraries}
