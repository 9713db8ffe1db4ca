"""The application: routes, problems, and what the process holds open while it runs."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse
from fastapi.telemetry import TelemetryConfig

from api import health
from api.access import CHALLENGE, AccessMiddleware, misdirected
from api.consistency.freshness import Freshness
from api.consistency.provenance import Provenance
from api.consistency.settlements import Settlements
from api.consistency.token import HEADER_NAME as TOKEN
from api.consistency.waker import Waker
from api.dependencies import Services
from api.etag import HEADER_NAME as ETAG
from api.items import routes as items
from api.metrics import ApiMetrics
from api.middleware import REQUEST_ID, RequestContextMiddleware, UnexpectedErrorMiddleware
from api.openapi import DESCRIPTION, complete_openapi
from api.point_reads import PointReads
from api.pool import Pool
from api.problems import install_problems
from api.settings import ApiSettings
from api.tags import routes as tags
from api.users import routes as users
from shared.mongo import async_read_model_database, create_async_client
from shared.own_names import OwnNamesOnly
from shared.read_models import READ_MODELS
from shared.telemetry import Tracing
from shared.version import installed_version

# Every aggregate's routes. A new aggregate adds its line here.
ROUTERS = (users.router, items.router, tags.router, health.router)


def create_app(settings: ApiSettings, tracing: Tracing | None = None) -> FastAPI:
    """Return the application. Nothing is opened until it starts."""
    name = f"kata-api {socket.gethostname()}:{os.getpid()}"
    settlements, waker, metrics = Settlements(settings, name), Waker(settings, name), ApiMetrics(settings, name)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        client = create_async_client(settings, name, timeoutMS=int(settings.read_timeout_seconds * 1000))
        pool = Pool(
            settings,
            name,
            size=settings.database_pool_size,
            timeout=settings.database_pool_timeout_seconds,
            statement_timeout=int(settings.statement_timeout_seconds * 1000),
            idle_in_transaction_session_timeout=int(settings.statement_timeout_seconds * 1000),
            # Every statement finds its rows by an index. A plan kept from the time when a table was empty would not.
            enable_seqscan="off",
        )
        metrics.watch_pool(pool)
        read_models = async_read_model_database(client, settings)
        provenance = Provenance(pool, read_models)
        app.state.services = Services(
            settings,
            pool,
            read_models,
            {read_model.name: PointReads(read_models[read_model.name]) for read_model in READ_MODELS},
            provenance,
            settlements,
            waker,
            Freshness(pool, settlements, waker, metrics),
            metrics,
        )
        parts = [
            asyncio.create_task(part) for part in (settlements.listen(), settlements.check(provenance), waker.run())
        ]
        yield
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        await pool.close()
        await client.close()

    app = FastAPI(
        title="Backend Kata",
        version=installed_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        telemetry=_telemetry(tracing),
    )
    app.state.settings = settings
    app.state.settlements = settlements
    for router in ROUTERS:
        app.include_router(router)
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    install_problems(app)
    complete_openapi(app, needs_token=settings.has_tokens)
    app.add_middleware(AccessMiddleware, settings=settings)
    app.add_middleware(UnexpectedErrorMiddleware)
    app.add_middleware(OwnNamesOnly, settings=settings, refuse=misdirected)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[
                "Location",
                "Link",
                "Projection-Status",
                "Preference-Applied",
                "Retry-After",
                CHALLENGE,
                ETAG,
                TOKEN,
                REQUEST_ID,
            ],
        )
    app.add_middleware(RequestContextMiddleware, metrics=metrics, tracing=tracing)
    return app


def _telemetry(tracing: Tracing | None) -> TelemetryConfig:
    """Return what FastAPI does: a server span per request if we trace, and nothing else."""
    return TelemetryConfig(
        tracing=tracing is not None,
        tracer_provider=tracing.provider if tracing else None,
        operation_spans=False,
        metrics=False,
        logs=False,
        auto_configure=False,
    )
