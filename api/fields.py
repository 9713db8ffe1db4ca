"""Field types that several aggregates share at the edge: strict JSON types, bounded by what both stores hold."""

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

INT32_MAX: Final = 2**31 - 1
INT64_MAX: Final = 2**63 - 1
# What Python does not take for space, for the OpenAPI document: to ECMA 262, the last five are none.
NOT_BLANK: Final = r"[^\s\x1c-\x1f\x85]"


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _only_digits(text: object) -> object:
    if isinstance(text, str) and not re.fullmatch(r"-?[0-9]{1,30}", text):
        raise ValueError("must be a whole number in decimal digits")
    return text


def format_time(time: datetime) -> str:
    """Return `time` as RFC 3339 in UTC with milliseconds and Z. One without a zone is in UTC, see shared/mongo.py."""
    in_utc = time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    return in_utc.isoformat(timespec="milliseconds") + "Z"


Int32 = Annotated[int, Field(strict=True, ge=-INT32_MAX - 1, le=INT32_MAX)]
Id = Annotated[int, Field(strict=True, ge=-INT64_MAX - 1, le=INT64_MAX)]
PathId = Annotated[int, Field(ge=-INT64_MAX - 1, le=INT64_MAX), BeforeValidator(_only_digits)]
# Of an answer: as the payload of an event has it, or as a document does.
KnownId = Annotated[int, Field(validation_alias=AliasChoices("id", "_id"))]
Name = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=200),
    AfterValidator(_not_blank),
    Field(json_schema_extra={"pattern": NOT_BLANK}),
]
Time = Annotated[
    datetime, PlainSerializer(format_time, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
