"""Reads by id that come at the same time share a command, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pymongo
import pytest
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidBSON
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.database import Database
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from api import point_reads
from api.point_reads import COMMANDS_AT_ONCE, MOST_IDS, PointReads
from api.settings import ApiSettings
from shared.mongo import Document, async_read_model_database, create_async_client

COUNT = 60
PATIENCE_SECONDS = point_reads.PATIENCE_SECONDS
Readers = Callable[[PointReads, "Gate"], Awaitable[None]]


class Gate:
    """Stands before a real collection: lets no command through while it is closed, and knows what was asked."""

    def __init__(self, collection: AsyncCollection[Document]) -> None:
        self.collection = collection
        self.asked: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()

    def find(self, wanted: Document) -> "Gate.Cursor":
        self.asked.append(wanted["_id"])
        return Gate.Cursor(self, wanted)

    async def find_one(self, wanted: Document) -> Document | None:
        self.asked.append(wanted["_id"])
        return await self.collection.find_one(wanted)

    class Cursor:
        """What a find answers."""

        def __init__(self, gate: "Gate", wanted: Document) -> None:
            self.gate, self.wanted = gate, wanted

        async def to_list(self) -> list[Document]:
            await self.gate.open.wait()
            return await self.gate.collection.find(self.wanted).to_list()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before the gate stands there until it opens."""
    monkeypatch.setattr(point_reads, "PATIENCE_SECONDS", 600.0)


@pytest.fixture
def run(api_settings: ApiSettings, read_models: Database[Document]) -> Callable[[Readers], None]:
    """Runs readers on documents 1 to COUNT, each with a `quality` of its id."""
    read_models["items_read"].insert_many({"_id": n, "quality": n} for n in range(1, COUNT + 1))

    def run(readers: Readers) -> None:
        async def with_gate() -> None:
            async with _gate(api_settings) as gate:
                await readers(PointReads(gate), gate)  # type: ignore[arg-type] - a gate before a collection

        asyncio.run(with_gate())

    return run


@asynccontextmanager
async def _gate(settings: ApiSettings) -> AsyncIterator[Gate]:
    async with create_async_client(settings, "test") as client:
        yield Gate(async_read_model_database(client, settings)["items_read"])


async def closed(points: PointReads, gate: Gate) -> list[asyncio.Task[Document | None]]:
    """Close the gate and have every command that may be under way stand before it."""
    gate.open.clear()
    first = [asyncio.create_task(points.document(COUNT - n)) for n in range(COMMANDS_AT_ONCE)]
    while len(gate.asked) < COMMANDS_AT_ONCE:  # noqa: ASYNC110 - tasks begin when the loop comes to them
        await asyncio.sleep(0)
    return first


def test_what_comes_while_commands_are_under_way_goes_together(run: Callable[[Readers], None]) -> None:
    async def readers(points: PointReads, gate: Gate) -> None:
        first = await closed(points, gate)
        others = [asyncio.create_task(points.document(n)) for n in (*range(1, 41), 1, 1, 9999)]
        await asyncio.sleep(0)
        assert len(gate.asked) == COMMANDS_AT_ONCE
        gate.open.set()
        found = await asyncio.gather(*others)
        assert [document and document["quality"] for document in found] == [*range(1, 41), 1, 1, None]
        assert [document and document["_id"] for document in await asyncio.gather(*first)] == [COUNT, COUNT - 1]
        assert len(gate.asked) == COMMANDS_AT_ONCE + 1
        assert sorted(gate.asked[-1]["$in"]) == [*range(1, 41), 9999]

    run(readers)


def test_one_that_is_alone_asks_at_once_and_for_itself(run: Callable[[Readers], None]) -> None:
    async def readers(points: PointReads, gate: Gate) -> None:
        assert await points.document(7) == {"_id": 7, "quality": 7}
        assert gate.asked == [7]

    run(readers)


def test_a_command_has_so_many_ids_at_most(run: Callable[[Readers], None]) -> None:
    async def readers(points: PointReads, gate: Gate) -> None:
        await closed(points, gate)
        others = [asyncio.create_task(points.document(n)) for n in range(1, 2 * MOST_IDS + 2)]
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(*others)
        assert [len(asked["$in"]) for asked in gate.asked[COMMANDS_AT_ONCE:-1]] == [MOST_IDS, MOST_IDS]
        assert gate.asked[-1] == 2 * MOST_IDS + 1

    run(readers)


def test_a_reader_sees_nothing_older_than_its_own_beginning(
    run: Callable[[Readers], None], read_models: Database[Document]
) -> None:
    async def readers(points: PointReads, gate: Gate) -> None:
        gate.open.clear()
        before = asyncio.create_task(points.document(5))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.open.set()
        assert await before == {"_id": 5, "quality": 5}
        read_models["items_read"].update_one({"_id": 5}, {"$set": {"quality": 50}})
        assert await points.document(5) == {"_id": 5, "quality": 50}

    run(readers)


def test_commands_that_hang_hold_nobody_up(run: Callable[[Readers], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_reads, "PATIENCE_SECONDS", PATIENCE_SECONDS)

    async def readers(points: PointReads, gate: Gate) -> None:
        hanging = await closed(points, gate)
        others = [asyncio.create_task(points.document(n)) for n in range(1, 11)]
        while len(gate.asked) == COMMANDS_AT_ONCE:  # noqa: ASYNC110 - nothing says so but what was asked
            await asyncio.sleep(0.001)
        assert sorted(gate.asked[-1]["$in"]) == list(range(1, 11))
        gate.open.set()
        await asyncio.gather(*hanging, *others)

    run(readers)


def test_what_is_deleted_is_not_there(run: Callable[[Readers], None], read_models: Database[Document]) -> None:
    read_models["items_read"].replace_one({"_id": 3}, {"version": 2, "deleted_at": DatetimeMS(0)})

    async def readers(points: PointReads, gate: Gate) -> None:
        await closed(points, gate)
        shared = [asyncio.create_task(points.document(n)) for n in (3, 4)]
        gate.open.set()
        assert await asyncio.gather(*shared) == [None, {"_id": 4, "quality": 4}]
        assert await points.document(3) is None

    run(readers)


def test_readers_that_go_away_touch_no_other(run: Callable[[Readers], None]) -> None:
    async def readers(points: PointReads, gate: Gate) -> None:
        first = await closed(points, gate)
        others = [asyncio.create_task(points.document(n)) for n in range(1, 11)]
        await asyncio.sleep(0)
        for gone in (*first, *others[:5]):
            gone.cancel()
        gate.open.set()
        left = await asyncio.wait_for(asyncio.gather(*others[5:]), 30)
        assert [document and document["_id"] for document in left] == [6, 7, 8, 9, 10]
        assert sorted(gate.asked[-1]["$in"]) == [6, 7, 8, 9, 10]
        assert await points.document(1) == {"_id": 1, "quality": 1}

    run(readers)


def test_a_document_that_cannot_be_read_fails_its_own_reader_alone(
    run: Callable[[Readers], None], read_models: Database[Document]
) -> None:
    read_models["items_read"].update_one({"_id": 2}, {"$set": {"updated_at": DatetimeMS(2**62)}})

    async def readers(points: PointReads, gate: Gate) -> None:
        await closed(points, gate)
        shared = [asyncio.create_task(points.document(n)) for n in (1, 2, 3)]
        gate.open.set()
        found = await asyncio.gather(*shared, return_exceptions=True)
        assert [found[0], found[2]] == [{"_id": 1, "quality": 1}, {"_id": 3, "quality": 3}]
        assert isinstance(found[1], InvalidBSON)

    run(readers)


def test_the_deadline_of_the_reader_who_comes_first_is_not_that_of_the_others(run: Callable[[Readers], None]) -> None:
    async def readers(points: PointReads, gate: Gate) -> None:
        with pymongo.timeout(0.000001):
            assert await points.document(1) == {"_id": 1, "quality": 1}
            with pytest.raises(PyMongoError) as late:
                await gate.collection.find_one({"_id": 1})
            assert late.value.timeout

    run(readers)


def test_a_server_that_is_away_is_said_to_be_away_to_everybody_at_once(api_settings: ApiSettings) -> None:
    away = api_settings.model_copy(
        update={
            "mongo_url": type(api_settings.mongo_url)("mongodb://127.0.0.1:1/?replicaSet=kata"),
            "connect_timeout_seconds": 1,
        }
    )

    async def readers() -> None:
        async with _gate(away) as gate:
            points = PointReads(gate)  # type: ignore[arg-type] - a gate before a collection
            found = await asyncio.gather(*(points.document(n) for n in range(1, 6)), return_exceptions=True)
            assert [type(error) for error in found] == [ServerSelectionTimeoutError] * 5

    asyncio.run(readers())
