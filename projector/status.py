"""`projector status`: what is not settled yet, read from PostgreSQL, so it can be asked from anywhere."""

from projector import outbox
from projector.outbox import OutboxStatus
from shared.postgres import connect
from shared.settings import Settings

STATUS_TIMEOUT_MILLISECONDS = 5_000


def read_status(settings: Settings, name: str = "kata-status") -> OutboxStatus:
    """Return backlog, lag and failures. Raises psycopg.Error when PostgreSQL is away or not migrated."""
    with connect(settings, name, autocommit=True, statement_timeout=STATUS_TIMEOUT_MILLISECONDS) as connection:
        return outbox.status(connection)
