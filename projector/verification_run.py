"""`projector verify`: compare the read models with their rows, show how far it is, keep what was found, repair it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

import psycopg
from pymongo.database import Database

from projector import rows, verifications
from projector.drift import Drift
from projector.projections.registry import PROJECTIONS, Projection
from projector.repair import Repairs
from projector.settings import ProjectorSettings
from projector.verifications import Verification
from projector.verify import compare, sample
from shared.installation import check_read_models
from shared.mongo import Document, create_client, read_model_database
from shared.postgres import connect
from shared.progress import show_progress

EXAMPLES: Final = 20


@dataclass
class Verified:
    """What was found in each read model, the first differences, and how many got a repair, if they were to."""

    verifications: list[Verification] = field(default_factory=list)
    examples: list[Drift] = field(default_factory=list)
    repaired: int | None = None

    @property
    def drift(self) -> int:
        """How many documents differ."""
        return sum(verification.drift for verification in self.verifications)

    @property
    def is_good(self) -> bool:
        """Whether nothing differs, or all that differs got a repair."""
        return self.drift == (self.repaired or 0)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as one object."""
        read_models = {_table(each): {"compared": each.compared, **each.kinds} for each in self.verifications}
        repaired = {} if self.repaired is None else {"repaired": self.repaired}
        return {"drift": self.drift, **repaired, **read_models}

    def describe(self) -> str:
        """Return the numbers as one sentence, and what to do."""
        compared = ", ".join(f"{each.compared:,} {_table(each)}" for each in self.verifications)
        if not self.drift:
            return f"No drift: compared {compared}."
        kinds = ", ".join(
            f"{count:,} {_table(each)} {kind}"
            for each in self.verifications
            for kind, count in each.kinds.items()
            if count
        )
        return f"Drift: {kinds}; compared {compared}. {self._remedy()}"

    def _remedy(self) -> str:
        if self.repaired is None:
            return "`--repair` mends it."
        text = f"Appended repairs for {self.repaired:,}; they are through when `projector status` shows backlog 0."
        if self.is_good:
            return text
        return f"{text} The others show a version that no row can have: `projector replay` mends them."


def verify(aggregate_types: Sequence[str], *, deep: bool, repair: bool, size: int | None) -> Verified:
    """Compare the read models of these aggregate types with their rows, `size` aggregates of each or all."""
    settings = ProjectorSettings.load_or_exit().for_maintenance()
    verified = Verified()
    with (
        create_client(settings, "kata-verify") as client,
        # A plan kept from the time when the outbox was empty would read all of it for each page that differs.
        connect(settings, "kata-verify", autocommit=True, plan_cache_mode="force_custom_plan") as connection,
    ):
        database = read_model_database(client, settings)
        check_read_models(connection, database)
        repairs = Repairs(connection) if repair else None
        # Owners come last: their repairs are on their way from then on, and would hide what differs in their items.
        for projection in sorted(map(PROJECTIONS.__getitem__, aggregate_types), key=attrgetter("is_owner")):
            verification = Verification(projection.read_model.aggregate_type, "sample" if size else "whole")
            verified.verifications.append(verification)
            for drift in _compared(connection, database, projection, verification, deep=deep, size=size):
                verification.count(drift)
                if len(verified.examples) < EXAMPLES:
                    verified.examples.append(drift)
                if repairs:
                    repairs.add(drift)
            verifications.record(connection, verification)
        verified.repaired = repairs.flush() if repairs else None
    verified.verifications.sort(key=lambda each: aggregate_types.index(each.aggregate_type))
    return verified


def _compared(
    connection: psycopg.Connection,
    database: Database[Document],
    projection: Projection,
    verification: Verification,
    *,
    deep: bool,
    size: int | None,
) -> Iterator[Drift]:
    table, collection = projection.rows.table, database[projection.read_model.name]
    with show_progress(table, size or rows.count(connection, projection.rows)) as progress:

        def on_page(count: int) -> None:
            verification.compared += count
            progress.advance(verification.compared)

        if size:
            yield from sample(connection, collection, projection, size, deep=deep, on_page=on_page)
        else:
            yield from compare(connection, collection, projection, deep=deep, on_page=on_page)


def _table(verification: Verification) -> str:
    return PROJECTIONS[verification.aggregate_type].rows.table
