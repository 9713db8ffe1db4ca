"""The control: a path that is not safe, so that the matrix is seen to find something."""

from tests.chaos.crash_points.actor import Actor
from tests.chaos.crash_points.effects import watching
from tests.chaos.crash_points.path import Path

INSERT = "INSERT INTO users (name, email, version) VALUES ('Eve', 'eve@example.org', 1) RETURNING *"


def write_both(actor: Actor) -> None:
    """Write a row, then its document, as one does who has no outbox."""
    with watching():
        (row,) = actor.connection.execute(INSERT)
        document = dict(zip(("_id", "name", "email", "version", "created_at", "updated_at"), row, strict=True))
        actor.database["users_read"].insert_one(document)


def write_both_if_nothing_was_written(actor: Actor) -> None:
    """Do it again, as a client does who looks first."""
    if not actor.connection.execute("SELECT 1 FROM users WHERE name = 'Eve'").fetchone():
        write_both(actor)


PATHS = (Path("dual write", lambda _: None, write_both, write_both_if_nothing_was_written),)
