"""Every error answer is a problem detail (RFC 9457), made here and nowhere else."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pymongo.errors import PyMongoError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Match

from api import log_events
from api.errors import (
    CursorError,
    DeadlineError,
    DomainError,
    EmailTakenError,
    IdempotencyKeyInFlightError,
    IdempotencyKeyReusedError,
    NewerResultError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    PreconditionFailedError,
    ProjectionFailedError,
    ProjectionPendingError,
    QueryConflictError,
    TokenError,
    UserOwnsItemsError,
)
from api.etag import ETAG_HEADERS, HEADER_NAME, etag_of
from shared.logs import get_logger
from shared.postgres import UNAVAILABLE

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = "1"
RETRY_AFTER_HEADERS: Final[dict[str, Any]] = {
    "Retry-After": {"description": "After so many seconds it may be different", "schema": {"type": "integer"}}
}
# A body can be wrong in half a million places; so many tell enough.
MAX_ERRORS: Final = 20
# The phrases of RFC 9110, which not every supported Python has.
TITLES: Final[Mapping[int, str]] = {413: "Content Too Large", 422: "Unprocessable Content"}
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

DOMAIN_STATUS: Final[Mapping[type[DomainError], tuple[int, str]]] = {
    NotFoundError: (404, "not-found"),
    EmailTakenError: (409, "email-taken"),
    UserOwnsItemsError: (409, "user-owns-items"),
    PreconditionFailedError: (412, "precondition-failed"),
    IdempotencyKeyReusedError: (422, "idempotency-key-reused"),
    IdempotencyKeyInFlightError: (409, "idempotency-key-in-flight"),
    NewerResultError: (503, "newer-version"),
    CursorError: (400, "bad-cursor"),
    QueryConflictError: (422, "invalid-request"),
    OutcomeUnknownError: (503, "outcome-unknown"),
    OverloadedError: (503, "overloaded"),
    DeadlineError: (503, "deadline"),
    TokenError: (400, "bad-token"),
    ProjectionPendingError: (503, "projection-pending"),
    ProjectionFailedError: (503, "projection-failed"),
}

_log = get_logger("problems")


class FieldProblem(BaseModel):
    """One wrong field."""

    pointer: str = Field(description="JSON Pointer into the body, or the name of a parameter", examples=["/quality"])
    detail: str = Field(examples=["Input should be a valid integer"])


class ProblemDetail(BaseModel):
    """What every error answers (RFC 9457)."""

    type: str = Field(description="Names the kind of problem", examples=["urn:kata:problem:not-found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["Item with id 9999 not found"])
    instance: str = Field(description="The path that was asked for", examples=["/items/9999"])
    request_id: str = Field(description="The X-Request-ID of this request")
    errors: list[FieldProblem] | None = Field(default=None, description="The wrong fields, one by one")


class ProblemError(HTTPException):
    """A problem that the HTTP layer itself finds, before any command runs."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.kind = kind
        self.errors = errors


def problem_response(
    request: Request,
    status: int,
    kind: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the answer for one problem of this request."""
    body: dict[str, Any] = {
        "type": f"urn:kata:problem:{kind}",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "instance": request.scope["raw_path"].decode("ascii", "replace"),
        "request_id": request.scope.get("request_id", ""),
    }
    if errors:
        body["errors"] = [error.model_dump() for error in errors]
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install_problems(app: FastAPI) -> None:
    """Make `app` answer every error as a problem."""
    app.exception_handler(DomainError)(_domain)
    app.exception_handler(RequestValidationError)(_validation)
    app.exception_handler(HTTPException)(_http)
    app.add_exception_handler(PyMongoError, _store_away)
    app.add_exception_handler(psycopg.Error, unexpected)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _store_away)
    app.add_exception_handler(Exception, unexpected)


def _domain(request: Request, error: DomainError) -> JSONResponse:
    status, kind = DOMAIN_STATUS[type(error)]
    errors = [FieldProblem(pointer=error.parameter, detail=str(error))] if isinstance(error, QueryConflictError) else ()
    passes = status == HTTPStatus.SERVICE_UNAVAILABLE or isinstance(error, IdempotencyKeyInFlightError)
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if passes else {}
    if isinstance(error, PreconditionFailedError):
        headers[HEADER_NAME] = etag_of(error.current)
    return problem_response(request, status, kind, str(error), errors=errors, headers=headers)


def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
    found = error.errors()[:MAX_ERRORS]
    errors = [FieldProblem(pointer=_pointer(e["loc"]), detail=_message(e["msg"])) for e in found]
    detail = "; ".join(f"{e.pointer or 'body'}: {e.detail}" for e in errors)
    return problem_response(request, 422, "invalid-request", detail, errors=errors)


def _http(request: Request, error: HTTPException) -> JSONResponse:
    kind = (
        error.kind
        if isinstance(error, ProblemError)
        else HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    )
    errors = error.errors if isinstance(error, ProblemError) else ()
    headers = error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": ", ".join(_allowed_methods(request))}
    return problem_response(request, error.status_code, kind, str(error.detail), errors=errors, headers=headers)


def _allowed_methods(request: Request) -> list[str]:
    """Return every method this path answers. The router names those of the first route alone."""

    def answers(method: str) -> bool:
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in METHODS if answers(method)]


def _store_away(request: Request, error: Exception) -> JSONResponse:
    store = "PostgreSQL" if isinstance(error, psycopg.Error) else "MongoDB"
    _log.warning(log_events.STORE_AWAY, store=store, error=f"{type(error).__name__}: {str(error)[:300]}")
    detail = f"{store} is away or not ready, so this cannot be done now; nothing was changed"
    return problem_response(request, 503, "store-away", detail, headers={"Retry-After": RETRY_AFTER_SECONDS})


def unexpected(request: Request, error: Exception) -> JSONResponse:
    """Log an error of ours and return the answer for it, which tells nothing of it."""
    _log.error(log_events.REQUEST_BROKE_OFF, exc_info=error)
    return problem_response(request, 500, "internal", "An error of the service, not of the request")


def _pointer(location: Sequence[int | str]) -> str:
    """Return where the wrong value is: a JSON Pointer (RFC 6901) for the body, else the parameter's name."""
    place, *path = location
    if place != "body":
        return str(path[0]) if path else str(place)
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def _message(text: str) -> str:
    return text.removeprefix("Value error, ")


def _title(status: int) -> str:
    return TITLES.get(status) or HTTPStatus(status).phrase


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the problems that a route answers."""
    return {
        status: {
            "description": _title(status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetail"}}},
            **({"headers": ETAG_HEADERS} if status == HTTPStatus.PRECONDITION_FAILED else {}),
        }
        for status in statuses
    }
