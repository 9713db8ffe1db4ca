"""If-Match and If-None-Match (RFC 9110, section 13), read at the edge: commands are told which versions to expect.

They count only where the same request without them would succeed (section 13.2.1). So an id that does not exist is a
404 with any of them, `If-Match: *` included.

A PUT answers the whole resource, and the tag of what it answers. Section 9.3.4 keeps a tag back where the client could
take it for that of the body it sent; here that body is a change and never the resource.
"""

from typing import Annotated, Any, Final

from fastapi import Header, Response
from pydantic import BaseModel

from api.errors import PreconditionFailedError
from api.etag import ETAG_HEADERS, HEADER_NAME, PATTERN, etag_of, parse_tags
from api.expected import ALL, NONE, Expected, Versions, VersionSet
from api.problems import FieldProblem, ProblemError

IF_MATCH: Final = "If-Match"
IF_NONE_MATCH: Final = "If-None-Match"

IfMatchHeader = Annotated[
    list[str] | None,
    Header(
        alias=IF_MATCH,
        description="Only if the resource is still in one of these states, else 412; * is any",
        json_schema_extra={"pattern": PATTERN},
    ),
]
IfNoneMatchHeader = Annotated[
    list[str] | None,
    Header(
        alias=IF_NONE_MATCH,
        description="Only if the resource is in none of these states, else 304 for a read and 412 for a write",
        json_schema_extra={"pattern": PATTERN},
    ),
]

NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "It is in a state that If-None-Match names; no body", "headers": ETAG_HEADERS}
}


async def expected_of(if_match: IfMatchHeader = None, if_none_match: IfNoneMatchHeader = None) -> Expected:
    """Return what the client expects of the resource."""
    return Expected(
        one_of=ALL if if_match is None else _versions(IF_MATCH, if_match, strong=True),
        none_of=NONE if if_none_match is None else _versions(IF_NONE_MATCH, if_none_match, strong=False),
    )


def read_answer(body: BaseModel, versions: Versions, expected: Expected) -> Response:
    """Answer a read: 200, or 304 when the client has what it would get. Raises PreconditionFailedError."""
    headers = {HEADER_NAME: etag_of(versions)}
    if versions not in expected.one_of:
        raise PreconditionFailedError(versions)
    if versions in expected.none_of:
        return Response(status_code=304, headers=headers)
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")


def _versions(name: str, lines: list[str], *, strong: bool) -> VersionSet:
    try:
        return parse_tags(", ".join(lines), strong=strong)
    except ValueError as error:
        errors = [FieldProblem(pointer=name, detail=str(error))]
        raise ProblemError(400, "bad-header", f"{name}: {error}", errors=errors) from error
