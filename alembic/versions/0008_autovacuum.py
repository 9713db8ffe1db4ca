"""Autovacuum of the tables through which everything passes.

Revision: 0008
Revises: 0007
Created: 2026-11-24

The server's own settings wait for a fifth of a table to be dead. That suits tables that keep what they get. In these
nearly every row is on its way out, and dead rows lie in front of the living: a sweep of the outbox walks over all of
them.

- `outbox`, `outbox_failures`: vacuumed once a thousand rows are dead, whatever the backlog (with the server's fifth, a
  backlog of a million would collect 200,000 first), and at full speed: there is little to do each time, and a vacuum
  that falls behind makes sweeps slower. A delay of a table's own also keeps vacuums of large tables elsewhere from
  slowing this one. Rows that only arrive, during an import, are no reason for a vacuum: they will be gone before it
  pays to freeze them.
- `idempotency_keys`: a day of keys stays, the oldest go in thousands every few minutes. A hundredth instead of a fifth,
  so that the purge does not begin behind hours of dead entries; in the server's own tempo, because the table is large.
- `projectors` needs none. Its rows are updated with every batch; since 0003 there is room on their page for that, so an
  update touches no index and the next one clears up after it.

Shrinking the file at its end stays on: after an import, `projector status` counts the table by reading all of it.

Each change takes a lock that lets reads and writes pass.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

PASSING_THROUGH = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "1000",
    "autovacuum_vacuum_cost_delay": "0",
    "autovacuum_vacuum_insert_threshold": "-1",
}
SETTINGS = {
    "outbox": PASSING_THROUGH,
    "outbox_failures": PASSING_THROUGH,
    "idempotency_keys": {"autovacuum_vacuum_scale_factor": "0.01"},
}


def upgrade() -> None:
    for table, settings in SETTINGS.items():
        op.execute(f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in settings.items())})")


def downgrade() -> None:
    for table, settings in SETTINGS.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(settings)})")
