"""The roles: one for each kind of process, with the same name in both servers."""

from enum import StrEnum


class Role(StrEnum):
    """What a process is for, and so what it may do. Only PostgreSQL has a role for migrations."""

    MIGRATION = "migration"  # owns the tables; Alembic
    API = "api"  # the API, and seed.py, which writes as commands do
    PROJECTOR = "projector"  # `projector run`, and the commands that look or act on dead letters
    MAINTENANCE = "maintenance"  # whoever rebuilds, repairs or empties the read models

    def name_in(self, prefix: str) -> str:
        """Return the name that this role has in the servers."""
        return f"{prefix}_{self.value}"
