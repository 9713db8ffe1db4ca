"""GET /health, /ready and /metrics of one projector."""

from typing import Any

import psycopg
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from projector.settings import ProjectorSettings
from projector.status import read_status
from projector.subscriber import RelaySubscriber, describe


def console(settings: ProjectorSettings, subscriber: RelaySubscriber, name: str) -> FastAPI:
    """Return the application. Its handlers are plain functions, which FastAPI runs on threads of their own."""
    app = FastAPI(title="Projector", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        """Answer that the process is alive."""
        return {"status": "ok"}

    @app.get("/ready")
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

    @app.get("/metrics")
    def metrics() -> Response:
        """Answer this projector's metrics in Prometheus' text format."""
        return Response(generate_latest(subscriber.registry), media_type=CONTENT_TYPE_LATEST)

    return app
