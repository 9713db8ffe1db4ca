"""The path of commands: a client of the API that creates, changes and deletes, and asks again until it is answered."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.settings import ApiSettings
from tests.chaos.crash_points.actor import Actor
from tests.chaos.crash_points.effects import watching
from tests.chaos.crash_points.path import Path
from tests.chaos.crash_points.shop import Shop

PAUSE_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 30
URL: Final = "http://localhost"


def prepare(shop: Shop) -> None:
    """The client knows a rug that it is going to delete."""
    shop.actor.note(rug=shop.ids["rug"], done=0)


def send_commands(actor: Actor) -> None:
    """Send one command after the other, from where they were left."""
    # It waits for a moment, though nobody relays: a command that is waited for wakes the relay with its commit.
    settings = ApiSettings.load(default_wait_seconds=0.01, database_pool_size=1)
    asyncio.run(_send_commands(create_app(settings), actor))


async def _send_commands(app: FastAPI, actor: Actor) -> None:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=URL) as client:
        # So that the API has its connection.
        await client.put("/users/1000000", json={"name": "nobody"})
        for send in COMMANDS[actor.notes["done"] :]:
            with watching():
                learnt = await send(client, actor.notes)
            actor.note(**learnt, done=actor.notes["done"] + 1)


async def create_user(client: httpx.AsyncClient, _: Mapping[str, Any]) -> dict[str, Any]:
    """Create a user."""
    body = {"name": "Eve", "email": "eve@example.org"}
    answer = await answered(client.build_request("POST", "/users", json=body, headers={"Idempotency-Key": "a"}), client)
    return {"eve": answer.json()["id"]}


async def create_item(client: httpx.AsyncClient, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Create an item with tags, old and new."""
    body = {"name": "pen", "sell_in": 1, "quality": 2, "owner_id": notes["eve"], "tags": ["used", "ink"]}
    answer = await answered(client.build_request("POST", "/items", json=body, headers={"Idempotency-Key": "b"}), client)
    return {"pen": answer.json()["id"], "etag": answer.headers["ETag"]}


async def update_item(client: httpx.AsyncClient, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Change what was created; if that was done before and nobody said so, it is not what was seen any more."""
    changes = {"name": "fountain pen", "tags": ["ink", "gold"]}
    path, seen = f"/items/{notes['pen']}", {"If-Match": notes["etag"]}
    await answered(client.build_request("PUT", path, json=changes, headers=seen), client, done_before=412)
    return {}


async def delete_item(client: httpx.AsyncClient, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Delete what was there; if that was done before, it is gone."""
    await answered(client.build_request("DELETE", f"/items/{notes['rug']}"), client, done_before=404)
    return {}


async def answered(request: httpx.Request, client: httpx.AsyncClient, done_before: int | None = None) -> httpx.Response:
    """Send a request until the answer says that it is done: what failed may have been done, and is sent again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = await client.send(request)
        if answer.is_success or answer.status_code == done_before:
            return answer
        assert answer.is_server_error or answer.status_code == 409, answer.text
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(PAUSE_SECONDS)


COMMANDS: Final = (create_user, create_item, update_item, delete_item)

PATHS = (Path("command", prepare, send_commands, send_commands, beside=send_commands),)
