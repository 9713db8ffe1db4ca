"""pgqueuer: its queue with the asyncpg driver; its benchmark's batch size, which is above its default of 10."""

import os

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from worker import Sink, main

ENTRYPOINT = "items"
BATCH = 100


async def fill(bodies: list[str]) -> None:
    """Install its tables and put the jobs in."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    queries = Queries(AsyncpgDriver(connection))
    if not await queries.has_table("pgqueuer"):
        await queries.install()
    payloads: list[bytes | None] = [body.encode() for body in bodies]
    await queries.enqueue([ENTRYPOINT] * len(bodies), payloads, [0] * len(bodies))


async def run(sink: Sink) -> None:
    """Work until everything is done."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    queue = PgQueuer(AsyncpgDriver(connection))

    @queue.entrypoint(ENTRYPOINT)
    async def handle(job: Job) -> None:
        await sink.handle(job.payload or b"")

    await queue.run(batch_size=BATCH)


main(fill, run)
