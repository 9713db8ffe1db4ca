"""What verify found, run by run. It is kept for a while, so it is seen from anywhere."""

from dataclasses import asdict, dataclass
from typing import Final, Literal

import psycopg

from projector.drift import KINDS, Drift

RECORD: Final = """
    INSERT INTO verifications (aggregate_type, kind, compared, missing, stale, orphaned, different)
    VALUES (%(aggregate_type)s, %(kind)s, %(compared)s, %(missing)s, %(stale)s, %(orphaned)s, %(different)s)
"""


@dataclass
class Verification:
    """What a run found in one read model: how many aggregates it compared, and how many differ, by kind."""

    aggregate_type: str
    kind: Literal["whole", "sample"]
    compared: int = 0
    missing: int = 0
    stale: int = 0
    orphaned: int = 0
    different: int = 0

    def count(self, drift: Drift) -> None:
        """Count one difference."""
        setattr(self, drift.kind, getattr(self, drift.kind) + 1)

    @property
    def kinds(self) -> dict[str, int]:
        """How many differ, by kind."""
        return {kind: getattr(self, kind) for kind in KINDS}

    @property
    def drift(self) -> int:
        """How many differ."""
        return sum(self.kinds.values())


def record(connection: psycopg.Connection, verification: Verification) -> None:
    """Keep what a run found."""
    connection.execute(RECORD, asdict(verification))
