"""The application on the projector's port: /health, /ready, /metrics, and the operators' web page."""

from typing import Any

import psycopg
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from projector.console.access import ConsoleAccess
from projector.console.bodies import SmallBodies
from projector.console.dead_letters import dead_letter_routes
from projector.console.feed import Feed
from projector.console.headers import SecurityHeaders
from projector.console.problems import install_problems, problem
from projector.console.routes import PAGE, page_routes
from projector.lookout import Lookout
from projector.settings import ProjectorSettings
from projector.status import read_status
from projector.subscriber import RelaySubscriber, describe
from shared.access import Access
from shared.own_names import OwnNamesOnly


def console(
    settings: ProjectorSettings, subscriber: RelaySubscriber, name: str, lookout: Lookout, feed: Feed
) -> FastAPI:
    """Return the application. Its handlers are plain functions, which FastAPI runs on threads of their own."""
    app = FastAPI(title="Projector", docs_url=None, redoc_url=None, openapi_url=None)
    install_problems(app)
    app.add_middleware(SmallBodies)
    app.add_middleware(OwnNamesOnly, settings=settings, refuse=lambda _request, status, detail: problem(status, detail))
    app.add_middleware(SecurityHeaders)
    app.include_router(machine_routes(settings, subscriber, name))
    access = ConsoleAccess(Access(settings))
    app.include_router(page_routes(settings, name, lookout, feed, access))
    app.include_router(dead_letter_routes(settings, subscriber, name, access))
    app.mount("/page", StaticFiles(directory=PAGE))
    return app


def machine_routes(settings: ProjectorSettings, subscriber: RelaySubscriber, name: str) -> APIRouter:
    """Return what machines ask. It never needs a token."""
    router = APIRouter()

    @router.get("/health")
    def health() -> dict[str, str]:
        """Answer that the process is alive."""
        return {"status": "ok"}

    @router.get("/ready")
    def ready() -> JSONResponse:
        """Answer whether every lane relays, and for what a lane waits."""
        lanes = [{"state": lane.state, "reason": lane.reason} for lane in subscriber.lanes]
        body: dict[str, Any] = {"status": "ready", "projector": name, "lanes": lanes}
        try:
            status = read_status(settings, name)
        except psycopg.Error as error:
            return JSONResponse(body | {"status": "not ready", "postgres": describe(error)}, 503)
        body |= {"backlog": status.backlog, "lag_seconds": round(status.lag_seconds, 3)}
        if any(lane.state != "relaying" for lane in subscriber.lanes):
            return JSONResponse(body | {"status": "not ready"}, 503)
        if status.lag_seconds >= settings.lag_degraded_seconds:
            body |= {"status": "degraded"}
        return JSONResponse(body)

    @router.get("/metrics")
    def metrics() -> Response:
        """Answer this projector's metrics in Prometheus' text format."""
        return Response(generate_latest(subscriber.registry), media_type=CONTENT_TYPE_LATEST)

    return router
