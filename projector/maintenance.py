"""What the CLI's commands do when they are run: connect, show progress, and sum up."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

from projector.connection import open_relay_connection
from projector.projections.registry import PROJECTIONS
from projector.replay import Page, Replay
from projector.settings import ProjectorSettings
from projector.status import Overview, read_overview
from shared.mongo import create_client, read_model_database
from shared.progress import Progress, show_progress


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


def status() -> Overview:
    """Return the whole installation at a glance."""
    return read_overview(ProjectorSettings.load_or_exit())
