"""txoutbox: its own table and PostgreSQL adapter, its defaults, woken by its trigger."""

import os

import asyncpg
from txoutbox import OutboxMessage, Relay
from txoutbox.adapters.postgres import PostgresStorage
from worker import Sink, main


async def _storage() -> PostgresStorage:
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"])
    return PostgresStorage(pool, table="txoutbox", notify_channel="txoutbox")


async def fill(bodies: list[str]) -> None:
    """Put the messages into its table, in one transaction."""
    outbox = await _storage()
    await outbox.create_schema()
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    async with connection.transaction():
        for number, body in enumerate(bodies):
            await outbox.insert(connection, "items", body.encode(), key=f"item-{number}")


async def run(sink: Sink) -> None:
    """Relay until everything is done."""

    async def publish(message: OutboxMessage) -> None:
        await sink.handle(message.payload)

    outbox = await _storage()
    relay = Relay(outbox, publish)
    await outbox.listen(relay.wake)
    await relay.run()


main(fill, run)
