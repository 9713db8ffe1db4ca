"""faststream-outbox: its broker with asyncpg and the number of workers that its page shows."""

import json
import os
from typing import Any

from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from worker import Sink, main

QUEUE = "items"
WORKERS = 4

metadata = MetaData()
outbox_table = make_outbox_table(metadata, table_name="faststream_outbox")


def _engine() -> AsyncEngine:
    return create_async_engine(os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"))


async def fill(bodies: list[str]) -> None:
    """Make its table and publish the messages in one transaction."""
    engine = _engine()
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    broker = OutboxBroker(engine, outbox_table=outbox_table)
    async with async_sessionmaker(engine)() as session, session.begin():
        for body in bodies:
            await broker.publish(json.loads(body), queue=QUEUE, session=session)


async def run(sink: Sink) -> None:
    """Work until everything is done."""
    broker = OutboxBroker(_engine(), outbox_table=outbox_table)

    @broker.subscriber(QUEUE, max_workers=WORKERS)
    async def handle(body: dict[str, Any]) -> None:
        await sink.handle(json.dumps(body))

    await broker.start()
    await sink.done.wait()


main(fill, run)
