"""The Idempotency-Key header, read at the edge.

https://www.ietf.org/archive/id/draft-ietf-httpapi-idempotency-key-header-07.html: an RFC 8941 string, in double quotes,
without parameters. The same without quotes is taken, too, as most services and their clients write it: `"k"` and `k`
are one key.
"""

import re
from typing import Annotated, Final

from fastapi import Header, Request

from api.idempotency.request_key import RequestKey, hash_of
from api.problems import FieldProblem, ProblemError

HEADER_NAME: Final = "Idempotency-Key"
# What `parse_key` takes, for the OpenAPI document.
PATTERN: Final = r'^[ \t]*(?:"(?:[!#-\[\]-~]|\\["\\]){1,255}"|[!#-+\--~]{1,255})[ \t]*$'

IdempotencyKeyHeader = Annotated[
    list[str] | None,
    Header(
        alias=HEADER_NAME,
        description="Makes this request safe to repeat for 24 hours: the same key and body are done once and answered "
        'the same. 1 to 255 visible ASCII characters, with or without double quotes around them: `"8e03978e"`.',
        json_schema_extra={"pattern": PATTERN},
    ),
]

_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
# Without quotes no comma: two header lines that a proxy joined are not one key.
_BARE: Final = re.compile(r"[!#-+\--~]+")
_ESCAPED: Final = re.compile(r'\\(["\\])')
_KEY: Final = re.compile(r"[!-~]{1,255}")


def parse_key(header: str) -> str:
    """Return the key in `header`. Raises ValueError when there is none."""
    header = header.strip(" \t")
    quoted = _QUOTED.fullmatch(header)
    key = _ESCAPED.sub(r"\1", quoted[1]) if quoted else header
    if not (quoted or _BARE.fullmatch(header)) or not _KEY.fullmatch(key):
        raise ValueError("expected one key of 1 to 255 visible ASCII characters, in double quotes")
    return key


async def request_key_of(request: Request, idempotency_key: IdempotencyKeyHeader = None) -> RequestKey | None:
    """Return the key of this request if it has one. The body was read and decoded before."""
    if idempotency_key is None:
        return None
    try:
        key = parse_key(", ".join(idempotency_key))
    except ValueError as error:
        errors = [FieldProblem(pointer=HEADER_NAME, detail=str(error))]
        raise ProblemError(400, "bad-header", f"{HEADER_NAME}: {error}", errors=errors) from error
    route = f"{request.method} {request.scope['route'].path}"
    body = await request.json() if await request.body() else None
    return RequestKey(request.scope["principal"], route, key, hash_of(body))
