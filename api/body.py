"""Reading a JSON body: bounded while it streams, strict about encoding, depth and what the stores can hold.

A body is read before anything else is done for its request, so a slow client holds nothing but its own connection.
"""

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from api.deadline import ClientGoneError, within_deadline
from api.problems import FieldProblem, ProblemError

MAX_DEPTH: Final = 16
# Both stores hold integers of at most 19 digits, and Python refuses to read those of more than 4300.
MAX_DIGITS: Final = 100
MAX_POINTER: Final = 200
# What web servers log for a client that has gone away; nobody receives it.
CLIENT_GONE: Final = 499


class JsonRequest(Request):
    """A request whose body is refused early and with a reason. FastAPI calls `body` and then `json`."""

    async def body(self) -> bytes:
        """Return the body, or refuse it as soon as it grows beyond the limit or is not JSON by its type."""
        if not hasattr(self, "_body"):
            seconds: float = self.app.state.settings.body_timeout_seconds
            try:
                async with asyncio.timeout(seconds):
                    body = await self._arriving_body()
            except TimeoutError as error:
                detail = f"The body did not arrive within {seconds:g} seconds"
                raise ProblemError(408, "body-timeout", detail, headers={"Connection": "close"}) from error
            if body and not _is_json(self.headers.get("content-type", "")):
                raise ProblemError(415, "unsupported-media-type", "The body must be application/json")
            self._body = bytes(body)
        return self._body

    async def _arriving_body(self) -> bytearray:
        limit: int = self.app.state.settings.max_body_bytes
        body = bytearray()
        async for chunk in self.stream():
            body += chunk
            if len(body) > limit:
                raise ProblemError(413, "too-large", f"The body is larger than {limit} bytes")
        return body

    async def json(self) -> Any:
        """Return the decoded body."""
        try:
            value = _read((await self.body()).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ProblemError(
                400, "unreadable", f"The body is not UTF-8: byte {error.start} cannot be read"
            ) from error
        except json.JSONDecodeError as error:
            detail = f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
            raise ProblemError(400, "unreadable", detail) from error
        except RecursionError as error:
            raise _too_deep("") from error
        _refuse_unstorable(value, "", 0)
        return value


class JsonRoute(APIRoute):
    """A route that reads its body through JsonRequest and then does all the rest within one deadline."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's own handler, given the stricter request."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            try:
                if self.body_field:
                    await request.body()
                async with within_deadline(request, request.app.state.settings.request_timeout_seconds):
                    return await handler(request)
            except (ClientDisconnect, ClientGoneError):
                return Response(status_code=CLIENT_GONE)

        return handle


class _LongInteger:
    """Stands for an integer that is too long to be read."""


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of thousands of digits: read again, slower, to find out where
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= MAX_DIGITS else _LongInteger())


def _is_json(content_type: str) -> bool:
    message = Message()
    message["content-type"] = content_type
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _refuse_unstorable(value: object, pointer: str, depth: int) -> None:
    """Refuse what JSON can spell and a store cannot hold, naming the field."""
    match value:
        case str():
            _refuse_unstorable_text(value, pointer)
        case _LongInteger():
            raise _invalid(pointer, f"Integers must not have more than {MAX_DIGITS} digits")
        case float() if not math.isfinite(value):
            raise _invalid(pointer, "Numbers must be finite")
        case dict() | list() if depth >= MAX_DEPTH:
            raise _too_deep(pointer)
        case dict():
            for key, member in value.items():
                _refuse_unstorable(member, f"{pointer}/{_escape(key)}", depth + 1)
        case list():
            for index, member in enumerate(value):
                _refuse_unstorable(member, f"{pointer}/{index}", depth + 1)
        case _:
            pass


def _refuse_unstorable_text(text: str, pointer: str) -> None:
    if "\x00" in text:
        raise _invalid(pointer, "Text must not hold the character NUL")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _invalid(pointer, "Text must not hold half of a surrogate pair") from error


def _escape(key: str) -> str:
    return key.encode("utf-8", "replace").decode().replace("~", "~0").replace("/", "~1")


def _invalid(pointer: str, detail: str) -> ProblemError:
    pointer = pointer[:MAX_POINTER]
    errors = [FieldProblem(pointer=pointer, detail=detail)]
    return ProblemError(422, "invalid-request", f"{pointer or 'body'}: {detail}", errors=errors)


def _too_deep(pointer: str) -> ProblemError:
    return _invalid(pointer, f"The body is nested deeper than {MAX_DEPTH} levels")
