"""Errors of the console's API: problem details (RFC 9457), as the service itself answers them."""

from collections.abc import Mapping
from http import HTTPStatus

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from projector.subscriber import describe
from shared.access import RefusedError


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as a problem detail."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def install_problems(app: FastAPI) -> None:
    """Have every error of `app` answered as a problem."""

    @app.exception_handler(HTTPException)
    def refused(_request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, error.detail, error.headers)

    @app.exception_handler(RefusedError)
    def not_let_in(_request: Request, error: RefusedError) -> JSONResponse:
        return problem(error.status, str(error), {"WWW-Authenticate": error.challenge})

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return problem(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    @app.exception_handler(psycopg.Error)
    def away(_request: Request, error: psycopg.Error) -> JSONResponse:
        return problem(503, f"PostgreSQL: {describe(error)}", {"Retry-After": "1"})
