"""The OpenAPI document: what FastAPI reads off the routes, completed by what all of them have in common.

What is said here holds for every route, those to come included, so no route has to repeat it.
"""

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from api.access import CHALLENGE, OPEN_PATHS, needed_for
from api.consistency.answer import WRITE_HEADERS
from api.fields import INT64_MAX
from api.middleware import REQUEST_ID
from api.problems import MEDIA_TYPE, RETRY_AFTER_HEADERS, ProblemDetail, problems

DESCRIPTION: Final = """\
Users, items and tags. Writes go to PostgreSQL; reads come from MongoDB; a write waits until it can be read unless the
client prefers otherwise.

Every error is a problem detail (RFC 9457). Beside the answers listed with each operation: an unknown path is a 404, a
method that a path does not have a 405 with `Allow`. Every GET answers HEAD, too. A request's `X-Request-ID` comes back
and is made when there is none; its `traceparent` (W3C Trace Context) goes along to the projector.

Where the service has tokens, a read needs one with the scope `read`, everything else one with `write`, which includes
`read`. Without a token such a service answers 401 to unknown paths, too. A service that has none and listens on its own
machine alone answers 421 to requests under any other name than localhost.
"""

REQUEST_ID_HEADERS: Final[dict[str, Any]] = {
    REQUEST_ID: {
        "description": "Names this request in the logs: what it sent as its own X-Request-ID, else a new one",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    }
}
CHALLENGE_HEADERS: Final[dict[str, Any]] = {
    CHALLENGE: {
        "description": "What is missing or wrong (RFC 6750)",
        "required": True,
        "schema": {"type": "string", "examples": ['Bearer realm="kata", error="invalid_token"']},
    }
}
SECURITY_SCHEME: Final = "token"
SECURITY_SCHEMES: Final[dict[str, Any]] = {
    SECURITY_SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": "As `projector token NAME` prints it: `kata_` and 43 characters. Scopes: `read`, `write`",
    }
}
LOCATION_HEADERS: Final[dict[str, Any]] = {
    "Location": {
        "description": "Where it is",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    }
}


def complete_openapi(app: FastAPI, *, needs_token: bool) -> None:
    """Make `app` describe what its routes do not say themselves. `needs_token`: it lets in nobody without one."""
    generate = app.openapi
    completed: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not completed:
            completed.update(_complete(generate(), needs_token=needs_token))
        return completed

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI documents it as the place for this


def _complete(document: dict[str, Any], *, needs_token: bool) -> dict[str, Any]:
    _, found = models_json_schema([(ProblemDetail, "serialization")], ref_template="#/components/schemas/{model}")
    document["components"]["schemas"].update(found["$defs"])
    for schema in document["components"]["schemas"].values():
        _restore_bounds(schema)
    document["components"]["securitySchemes"] = SECURITY_SCHEMES
    for path, method, operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _as_sent(parameter["schema"], parameter["in"])
        answers: dict[str, Any] = operation["responses"]
        common = [500]
        if path not in OPEN_PATHS:
            scope = needed_for(method.upper())
            operation["security"] = [{SECURITY_SCHEME: [scope]}] + ([] if needs_token else [{}])
            # Every scope includes `read`, so a token is never too weak for it.
            common += [401] if scope == "read" else [401, 403]
        for status, answer in problems(*common).items():
            answers.setdefault(str(status), answer)
        for status, answer in answers.items():
            answer["headers"] = {**answer.get("headers", {}), **_headers(method, status, answer)}
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _restore_bounds(schema: Any) -> None:
    """Make integers again of the bounds of integers: FastAPI makes floats of them, which cannot hold those of int64."""
    if isinstance(schema, list):
        for part in schema:
            _restore_bounds(part)
    elif isinstance(schema, dict):
        for part in schema.values():
            _restore_bounds(part)
        for bound in ("minimum", "maximum"):
            if schema.get("type") == "integer" and isinstance(schema.get(bound), float):
                schema[bound] = min(int(schema[bound]), INT64_MAX)


def _as_sent(schema: dict[str, Any], place: str) -> dict[str, Any]:
    """Return the schema of a parameter as it travels: absent, but never null; and a header is one line of text."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema = {name: value for name, value in schema.items() if name != "anyOf"} | kinds[0]
    if place == "header" and schema.get("type") == "array":
        schema = {name: value for name, value in schema.items() if name != "items"} | {"type": "string"}
    return schema


def _headers(method: str, status: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the headers that every answer of this method and status has."""
    headers = dict(REQUEST_ID_HEADERS)
    if status == "503" and MEDIA_TYPE in answer.get("content", ()):
        headers |= RETRY_AFTER_HEADERS
    if status in {"401", "403"}:
        headers |= CHALLENGE_HEADERS
    if method != "get" and status.startswith("2"):
        headers |= WRITE_HEADERS
    if method == "post" and status.startswith("2"):
        headers |= LOCATION_HEADERS
    return headers
