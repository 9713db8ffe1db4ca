"""GET /health, /ready and /metrics."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, Literal

import pymongo
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import Services, services_of
from shared.mongo import META
from shared.outbox.lookup import HAS_TABLES

CHECK_SECONDS = 3.0

# What the drivers' words mean, the first that fits.
REASONS = {
    "(?i)certificate|ssl|tls": "certificates: the server's is not trusted, or it asks for ours",
    "permission denied|not authorized": "our user lacks rights: `projector doctor`",
    "(?i)authentication": "our user or password is refused",
}

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """How the service and each of its dependencies are."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"status": "ready", "postgres": "ok", "mongo": "ok", "read_models": "ok", "lag_seconds": 0.012}
            ]
        }
    )

    status: Literal["ready", "degraded", "not ready"]
    postgres: str = Field(description="ok, or why it is away")
    mongo: str = Field(description="ok, or why it is away")
    read_models: str = Field(
        default="unknown",
        description="ok, or why they are not those of this write model, and what to do. Until then no write is said to "
        "be visible, and reads with a token wait",
    )
    lag_seconds: float | None = Field(default=None, description="Age of the oldest write that cannot be read yet", ge=0)


@router.get("/health", summary="Is the process alive?")
async def health() -> Health:
    """Answer at once, without asking anybody."""
    return Health()


@router.get(
    "/ready",
    summary="Can it serve?",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "A dependency is missing"}},
)
async def ready(request: Request) -> JSONResponse:
    """Answer how each dependency is, and the relay's lag in seconds. Lag makes it degraded, not unready."""
    services = services_of(request)
    postgres, mongo, refusal, lag = await asyncio.gather(
        _check(_ask(services)),
        _check(_read(services)),
        _check(services.provenance.refusal()),
        # A look of its own: it walks over dead rows, and while that takes too long the service serves all the same.
        _check(asyncio.to_thread(services.metrics.lag_seconds)),
    )
    body: dict[str, Any] = {"status": "ready", "postgres": _describe(postgres), "mongo": _describe(mongo)}
    body["read_models"] = "unknown" if isinstance(refusal, Exception) else refusal or "ok"
    if isinstance(refusal, str):
        body["status"] = "degraded"
    if isinstance(lag, float):
        body["lag_seconds"] = round(lag, 3)
        if lag >= services.settings.lag_degraded_seconds:
            body["status"] = "degraded"
    if isinstance(postgres, Exception) or isinstance(mongo, Exception):
        return JSONResponse(body | {"status": "not ready"}, 503)
    return JSONResponse(body)


@router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Answer this process's metrics in Prometheus' text format. On a thread, because it looks at the lag."""
    return Response(generate_latest(services_of(request).metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _ask(services: Services) -> None:
    async with services.pool.connection(autocommit=True) as connection:
        await connection.execute(HAS_TABLES)


async def _read(services: Services) -> None:
    # Before the check gives up: the driver then says why there is no answer. And a server answers a ping to whoever may
    # read nothing.
    with pymongo.timeout(CHECK_SECONDS * 0.8):
        await services.read_models[META].find_one({}, {"_id": 1})


async def _check(check: Coroutine[Any, Any, object]) -> object:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return error


def _describe(outcome: object) -> str:
    """Return ok, or why not, in words of ours: the drivers' own have addresses in them, the log has those."""
    if not isinstance(outcome, Exception):
        return "ok"
    text = str(outcome)
    reason = next((f": {reason}" for words, reason in REASONS.items() if re.search(words, text)), "")
    return f"away ({type(outcome).__name__}{reason})"
