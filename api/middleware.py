"""One canonical log line per request, and a request id that goes in, out, and along into the outbox.

An error of ours is answered inside of both, so that its answer has the id and its line the status.
"""

import re
import time
import uuid
from typing import Final
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import log_events
from api.metrics import ApiMetrics
from api.problems import unexpected
from shared.logs import get_logger
from shared.telemetry import Tracing, begin_request

REQUEST_ID: Final = "X-Request-ID"
_ACCEPTED_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# https://www.w3.org/TR/trace-context/#traceparent-header: version ff and ids of zeros alone are invalid.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_LOGGED_PATH: Final = 200

_log = get_logger("request")


class RequestContextMiddleware:
    """Gives each request its id and trace context; logs and counts it once, when it is over."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope}
        headers = Headers(scope=scope)
        request_id = headers.get(REQUEST_ID, "")
        if not _ACCEPTED_ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex
        scope["request_id"] = request_id
        # Whoever follows the trace from the outbox on comes to the request's own span first, if it has one.
        traceparent = begin_request(request_id) if self._tracing else headers.get("traceparent", "")
        carried = scope["trace_context"] = trace_context(request_id, traceparent)
        fields: dict[str, object] = {}
        if "traceparent" in carried:
            fields["trace_id"] = carried["traceparent"].split("-")[1]
        scope["log_fields"] = fields
        method, status = scope["method"], 0
        if method == "HEAD":
            # Every GET route answers HEAD; the server, which has the scope as it came, sends no body.
            scope["method"] = "GET"

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        begun = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - begun
                route = getattr(scope.get("route"), "path", None)
                self._metrics.request(method, route, status, seconds)
                _log.info(
                    log_events.REQUEST,
                    method=method,
                    route=route or quote(scope["path"])[:_LOGGED_PATH],
                    status=status,
                    seconds=round(seconds, 6),
                    **fields,
                )


class UnexpectedErrorMiddleware:
    """Answers an error of ours as a problem. Innermost, so that everything outside sees an ordinary answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one request."""
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            await unexpected(Request(scope), error)(scope, receive, send)


def trace_context(request_id: str, traceparent: str) -> dict[str, str]:
    """Return what the outbox row carries of the request: its id, and the W3C traceparent when it is well formed."""
    context = {"request_id": request_id}
    if _TRACEPARENT.fullmatch(traceparent):
        context["traceparent"] = traceparent
    return context
