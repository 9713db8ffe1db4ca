"""Where everything is, once it runs."""

from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Addresses:
    """The keys of `kata up --json`, the only output that shows passwords (in postgres and mongo)."""

    api: str
    projector: str
    projectors: tuple[str, ...]
    postgres: str
    mongo: str

    def as_json(self) -> dict[str, object]:
        """The object that `kata up --json` prints last."""
        return {**asdict(self), "projectors": list(self.projectors)}

    def lines(self, data: Path) -> list[str]:
        """The same for people, without passwords."""
        return [
            f"API         {self.api}  (try {self.api}/docs)",
            *(f"Projector   {projector}" for projector in self.projectors),
            f"PostgreSQL  {without_login(self.postgres)}",
            f"MongoDB     {without_login(self.mongo)}",
            f"Data        {data}",
            f"Logs        {data / 'logs'}",
        ]


def without_login(url: str) -> str:
    """The URL without user, password and options."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0].rstrip('/')}"
