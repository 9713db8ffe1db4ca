"""The naive dual write, the kata's way: the ORM commits, then the request itself writes MongoDB by majority.

What it lacks is why the product exists: a process that dies between the two writes leaves them apart for good. It has
the product's tables and indexes, the same drivers, pool and server, and answers the same document.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import uvicorn
from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel
from pymongo import AsyncMongoClient
from pymongo.write_concern import WriteConcern
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker

from benchmarks.speed.rivals.engine import create_engine
from shared.read_models import ITEMS_READ
from shared.settings import Settings
from shared.write_model.item import Item
from shared.write_model.tag import ItemTag, Tag
from shared.write_model.user import User

settings = Settings.load()
engine = create_engine(settings, "dual write", pool_size=10, pool_timeout=30)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class NewItem(BaseModel):
    """The body of POST /items."""

    name: str
    sell_in: int
    quality: int
    owner_id: int
    tags: list[str] = []
    description: str | None = None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the client of MongoDB on the event loop that uses it."""
    async with AsyncMongoClient[dict[str, Any]](settings.mongo_url.get_secret_value(), tz_aware=True) as client:
        durable = client.get_database(settings.mongo_database, write_concern=WriteConcern("majority", j=True))
        app.state.items = durable[ITEMS_READ.name]
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that it runs."""
    return {"status": "alive"}


@app.post("/items", status_code=201)
async def create_item(new: NewItem) -> dict[str, Any]:
    """Commit the item, then write its document, then answer it."""
    async with sessions() as session:
        owner = await session.get(User, new.owner_id)
        if owner is None:
            raise HTTPException(404, f"Owner with id {new.owner_id} not found")
        fields = new.model_dump(exclude={"tags"})
        item = Item(**fields, version=1)
        session.add(item)
        found = await session.scalars(select(Tag).where(Tag.name.in_(new.tags)))
        tags = {tag.name: tag for tag in found}
        missing = [Tag(name=name) for name in new.tags if name not in tags]
        session.add_all(missing)
        await session.flush()
        tags |= {tag.name: tag for tag in missing}
        session.add_all(
            ItemTag(item_id=item.id, position=position, tag_id=tags[name].id) for position, name in enumerate(new.tags)
        )
        await session.commit()
    now = datetime.now(UTC)
    document = {
        "_id": item.id,
        "name": item.name,
        "description": item.description,
        "sell_in": item.sell_in,
        "quality": item.quality,
        "owner": {"id": owner.id, "name": owner.name, "email": owner.email, "version": owner.version},
        "tags": new.tags,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }
    await app.state.items.insert_one(document)
    return {"id": document.pop("_id"), **document}


@app.get("/items")
async def list_items(tag: str, limit: int) -> Response:
    """Answer the first items that have a tag, by one find."""
    found = await app.state.items.find({"tags": tag}).sort("_id").limit(limit).to_list()
    return Response(orjson.dumps(found), media_type="application/json")


@app.get("/items/{item_id}")
async def get_item(item_id: int) -> dict[str, Any]:
    """Answer one item by a find_one of its own."""
    document = await app.state.items.find_one({"_id": item_id})
    if document is None:
        raise HTTPException(404, f"Item with id {item_id} not found")
    return {"id": document.pop("_id"), **document}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["API_PORT"]), log_level="warning", access_log=False)
