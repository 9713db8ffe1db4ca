"""What the CLI's commands do when they are run: connect, show progress, and sum up."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from projector import rows
from projector.connection import open_relay_connection
from projector.projections.registry import PROJECTIONS
from projector.replay import Page, Replay
from projector.settings import ProjectorSettings
from projector.status import Overview, read_overview
from projector.verify import Drift, compare
from shared.installation import check_read_models
from shared.mongo import create_client, read_model_database
from shared.postgres import connect
from shared.progress import Progress, show_progress

EXAMPLES: Final = 20


@dataclass
class Verified:
    """What verify found: rows compared and differences by kind, for each read model, and the first differences."""

    compared: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    examples: list[Drift] = field(default_factory=list)

    @property
    def drift(self) -> int:
        """How many documents differ."""
        return sum(counts.total() for counts in self.kinds.values())

    def add(self, name: str, drift: Drift) -> None:
        """Count one difference."""
        self.kinds[name][drift.kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(drift)

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as one object."""
        read_models = {name: {"compared": self.compared[name], **self.kinds[name]} for name in self.compared}
        return {"drift": self.drift, **read_models}

    def describe(self) -> str:
        """Return the numbers as one sentence."""
        compared = ", ".join(f"{count:,} {name}" for name, count in self.compared.items())
        if not self.drift:
            return f"No drift: compared {compared}."
        kinds = ", ".join(f"{n:,} {name} {kind}" for name, counts in self.kinds.items() for kind, n in counts.items())
        return f"Drift: {kinds}; compared {compared}. `projector replay` brings missing and stale documents back."


def replay(aggregate_types: Sequence[str]) -> dict[str, int]:
    """Rebuild the read models of these aggregate types and return the rows read of each table."""
    settings = ProjectorSettings.load_or_exit()
    totals: Counter[str] = Counter()
    with create_client(settings, "kata-replay") as client, ExitStack() as bars:
        database = read_model_database(client, settings)
        connection, installation = open_relay_connection(settings, "kata-replay", database)
        progress: Progress | None = None

        def on_page(aggregate_type: str, expected: int, page: Page) -> None:
            nonlocal progress
            table = PROJECTIONS[aggregate_type].rows.table
            if progress is None or table not in totals:
                bars.close()
                progress = show_progress(table, expected)
                bars.enter_context(progress)
            totals[table] += page.rows
            progress.advance(totals[table])

        with connection:
            done = Replay(connection, installation, database, settings.batch_deadline_seconds).run(
                aggregate_types, on_page
            )
    return {PROJECTIONS[aggregate_type].rows.table: count for aggregate_type, count in done.items()}


def verify(aggregate_types: Sequence[str]) -> Verified:
    """Compare the read models of these aggregate types with their rows."""
    settings = ProjectorSettings.load_or_exit()
    verified = Verified()
    with (
        create_client(settings, "kata-verify") as client,
        connect(settings, "kata-verify", autocommit=True) as connection,
    ):
        database = read_model_database(client, settings)
        check_read_models(connection, database)
        for projection in (PROJECTIONS[aggregate_type] for aggregate_type in aggregate_types):
            table = projection.rows.table
            verified.compared[table], verified.kinds[table] = 0, Counter()
            with show_progress(table, rows.count(connection, projection.rows)) as progress:

                def on_page(count: int, table: str = table, progress: Progress = progress) -> None:
                    verified.compared[table] += count
                    progress.advance(verified.compared[table])

                for drift in compare(connection, database, projection, on_page):
                    verified.add(table, drift)
    return verified


def status() -> Overview:
    """Return the whole installation at a glance."""
    return read_overview(ProjectorSettings.load_or_exit())
