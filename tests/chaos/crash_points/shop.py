"""What is in the databases before a path begins: users, items and tags, some deleted, all of it in the read models."""

import json
from dataclasses import dataclass, field, replace

import psycopg
from pymongo.database import Database

from projector.projections.registry import PROJECTIONS
from projector.rows import events_of
from shared.events.event import deleted
from shared.mongo import Document
from shared.outbox.append import append_all
from tests.chaos.crash_points.actor import Actor
from tests.integration.projector.conftest import Rows


@dataclass
class Shop:
    """Changes rows as commands do, each in one transaction with its message. What is in it has a name."""

    actor: Actor
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def connection(self) -> psycopg.Connection:
        """A connection in autocommit mode."""
        return self.actor.connection

    @property
    def database(self) -> Database[Document]:
        """The read models."""
        return self.actor.database

    def open(self) -> None:
        """Fill it: Ada and Bob have items, Cy is gone, and so is a stool."""
        for user in ("Ada", "Bob", "Cy"):
            self.user(user)
        for owner, item in (("Ada", "brie"), ("Ada", "desk"), ("Bob", "lamp"), ("Bob", "stool"), ("Bob", "rug")):
            self.item(owner, item)
        self.delete("user", "Cy")
        self.delete("item", "stool")
        self.settle()

    def settle(self) -> None:
        """Have everything relayed."""
        self.actor.relay()

    def user(self, name: str) -> None:
        """Add a user."""
        with self.connection.transaction():
            self.ids[name] = Rows(self.connection).user(name)
            self._send("user", name, "created")

    def item(self, owner: str, name: str) -> None:
        """Add an item with two tags, one of which it shares with all others."""
        with self.connection.transaction():
            self.ids[name] = Rows(self.connection).item(self.ids[owner], name, tags=("used", name))
            self._send("item", name, "created")

    def rename(self, aggregate_type: str, name: str, new_name: str) -> None:
        """Change the name of a user or an item; it goes on being known here by its first one."""
        statement = (
            f"UPDATE {aggregate_type}s SET name = %s, version = version + 1, updated_at = clock_timestamp() "
            "WHERE id = %s"
        )
        with self.connection.transaction():
            self.connection.execute(statement.encode(), (new_name, self.ids[name]))
            self._send(aggregate_type, name, "updated")

    def delete(self, aggregate_type: str, name: str) -> None:
        """Delete a user or an item."""
        statement = f"DELETE FROM {aggregate_type}s WHERE id = %s RETURNING version, clock_timestamp()::timestamptz(3)"
        with self.connection.transaction():
            row = self.connection.execute(statement.encode(), (self.ids[name],)).fetchone()
            assert row
            append_all(self.connection.cursor(), [deleted(aggregate_type, self.ids[name], row[0] + 1, row[1])])

    def append_poison(self, aggregate_id: int, *, again_in: str | None = None) -> None:
        """Append a message that nobody can read; or one that failed before, which is due again in so long."""
        columns = "id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, created_at"
        self.connection.execute(
            "INSERT INTO outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload, awaited)"
            " VALUES ('item', %s, 1, 'item.exploded', %s, true)",
            (aggregate_id, json.dumps({"id": aggregate_id})),
        )
        if again_in:
            self.connection.execute(
                "WITH moved AS (DELETE FROM outbox WHERE event_type = 'item.exploded' AND aggregate_id = %s"
                f" RETURNING *) INSERT INTO outbox_failures ({columns}, state, attempts, error, next_attempt_at)"
                f" SELECT {columns}, 'retrying', 1, 'it exploded', clock_timestamp() + %s::interval FROM moved",
                (aggregate_id, again_in),
            )

    def await_everything(self) -> None:
        """Have a client wait for whatever is on its way."""
        self.connection.execute("UPDATE outbox SET awaited = true")

    def spoil(self, aggregate_type: str, name: str, **fields: object) -> None:
        """Write to a document past the service."""
        collection = self.database[PROJECTIONS[aggregate_type].read_model.name]
        collection.update_one({"_id": self.ids[name]}, {"$set": fields})

    def lose(self, aggregate_type: str, name: str) -> None:
        """Delete a document past the service."""
        self.database[PROJECTIONS[aggregate_type].read_model.name].delete_one({"_id": self.ids[name]})

    def _send(self, aggregate_type: str, name: str, happened: str) -> None:
        source = PROJECTIONS[aggregate_type].rows
        (state,) = events_of(self.connection, aggregate_type, source, [self.ids[name]])
        append_all(self.connection.cursor(), [replace(state, event_type=f"{aggregate_type}.{happened}")])
