"""The entity tag of one resource: strong, made of the versions that it shows (RFC 9110, section 8.8.3).

`"3"` is a user at version 3, `"3-7"` an item at version 3 whose owner is at version 7. An item that changes hands gets
a new version of its own, so the owner's id need not be told.
"""

import re
from typing import Any, Final

from api.expected import ALL, Versions, VersionSet

HEADER_NAME: Final = "ETag"

ETAG_HEADERS: Final[dict[str, Any]] = {
    HEADER_NAME: {
        "description": "Names this state of the resource, for If-None-Match and If-Match",
        "required": True,
        "schema": {"type": "string", "examples": ['"3"', '"3-7"']},
    }
}

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_SPACE: Final = r"[ \t]*"
# RFC 9110, section 5.6.1.2: empty elements of a list are passed over.
_LIST: Final = re.compile(rf"{_SPACE}(?:{_TAG.pattern}{_SPACE})?(?:,{_SPACE}(?:{_TAG.pattern}{_SPACE})?)*")
# What a client may send, for the OpenAPI document.
PATTERN: Final = rf"^(?:{_SPACE}\*{_SPACE}|{_LIST.pattern})$"
# Canonical, so that two tags are equal exactly when their versions are.
_VERSIONS: Final = re.compile(r"[1-9][0-9]{0,18}(?:-[1-9][0-9]{0,18})*")


def etag_of(versions: Versions) -> str:
    """Return the entity tag of what shows these versions."""
    return f'"{"-".join(map(str, versions))}"'


def parse_tags(header: str, *, strong: bool) -> VersionSet:
    """Return the versions that the list of entity tags names; a tag that we never gave out names none.

    `strong` is the comparison of If-Match, in which a weak tag equals nothing. Raises ValueError when `header` is
    neither `*` nor such a list.
    """
    if header.strip(" \t") == "*":
        return ALL
    if not _LIST.fullmatch(header):
        raise ValueError('expected * or entity tags in double quotes, separated by commas, as in "3-7"')
    tags = [opaque for weak, opaque in _TAG.findall(header) if not (weak and strong)]
    return VersionSet(frozenset(tuple(map(int, tag.split("-"))) for tag in tags if _VERSIONS.fullmatch(tag)))
