"""The control: a path that is not safe, so that the matrix is seen to find something."""

from tests.chaos.crash_points.actor import Actor
from tests.chaos.crash_points.effects import watching
from tests.chaos.crash_points.path import Path

INSERT = "INSERT INTO users (name, email) VALUES ('Eve', 'eve@example.org') RETURNING *"


def write_both(actor: Actor) -> None:
    """Write a row, then its document, as one does who has no outbox."""
    with watching():
        (row,) = actor.connection.execute(INSERT)
        document = dict(zip(("_id", "name", "email", "version", "created_at", "updated_at"), row, strict=True))
        actor.database["users_read"].insert_one(document)


PATHS = (Path("dual write", lambda _: None, write_both),)
