"""Keyset paging: an opaque cursor says after which document the next page starts.

In id order no document that exists throughout is skipped or shown twice, whatever is written meanwhile.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlencode

import orjson
from fastapi import Query, Request, Response
from pydantic import TypeAdapter

from api.errors import CursorError
from api.fields import INT64_MAX

T = TypeVar("T")

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most")]
CursorParameter = Annotated[
    str | None, Query(max_length=4096, description="Where to go on: taken as it is from the Link header")
]

PAGE_HEADERS: Final[dict[str, Any]] = {
    "Link": {"description": 'The next page, rel="next" (RFC 8288); absent on the last', "schema": {"type": "string"}}
}


def encode_cursor(order: str, values: Sequence[Any]) -> str:
    """Return the cursor for `values`, the sort key of the last document shown in the order named `order`."""
    return (
        base64.urlsafe_b64encode(orjson.dumps([order, *values], option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC))
        .decode()
        .rstrip("=")
    )


def decode_cursor(cursor: str, order: str, kinds: Sequence[type]) -> list[Any]:
    """Return the sort key in `cursor`. Raises CursorError unless it is of this order and of these types."""
    try:
        decoded = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        found, *values = decoded
        if found != order or len(values) != len(kinds):
            raise CursorError
        return [_read(value, kind) for value, kind in zip(values, kinds, strict=True)]
    except (binascii.Error, ValueError, TypeError, OverflowError) as error:
        raise CursorError from error


def page_answer(request: Request, page: TypeAdapter[list[T]], shown: Sequence[T], cursor: str | None) -> Response:
    """Answer a page and, unless `cursor` is None, where the next one is.

    The models were checked when they were made. The framework would check and convert each of them once more.
    """
    body = page.dump_json(list(shown))
    return Response(body, headers=_next_link(request, cursor), media_type="application/json")


def _next_link(request: Request, cursor: str | None) -> Mapping[str, str]:
    """Return the Link header for the page after this one, which keeps every parameter but the cursor."""
    if cursor is None:
        return {}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return {
        "Link": f'<{request.scope["raw_path"].decode("ascii")}?{urlencode([*kept, ("cursor", cursor)])}>; rel="next"'
    }


def _read(value: object, kind: type) -> object:
    if kind is datetime and isinstance(value, str):
        return datetime.fromisoformat(value).astimezone(UTC)
    if type(value) is not kind or (isinstance(value, int) and not -INT64_MAX <= value <= INT64_MAX):
        raise CursorError
    return value
