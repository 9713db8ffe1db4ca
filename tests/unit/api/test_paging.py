"""Cursors and links."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from starlette.requests import Request

from api.errors import CursorError
from api.fields import INT64_MAX, format_time
from api.paging import decode_cursor, encode_cursor, page_answer

IDS = st.integers(-INT64_MAX, INT64_MAX)
MILLISECONDS = st.integers(0, 4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)


@given(IDS, st.text(st.characters(codec="utf-8")), MILLISECONDS)
def test_a_cursor_comes_back_as_it_went(last_id: int, name: str, time: datetime) -> None:
    assert decode_cursor(encode_cursor("id", [last_id]), "id", [int]) == [last_id]
    assert decode_cursor(encode_cursor("-name", [name, last_id]), "-name", [str, int]) == [name, last_id]
    assert decode_cursor(encode_cursor("updated_at", [time, 1]), "updated_at", [datetime, int]) == [time, 1]


@pytest.mark.usefixtures("in_tokyo")
@given(MILLISECONDS)
def test_a_time_as_the_read_models_have_it_is_in_utc_wherever_the_process_runs(moment: datetime) -> None:
    as_read = moment.replace(tzinfo=None)
    assert encode_cursor("updated_at", [as_read, 1]) == encode_cursor("updated_at", [moment, 1])
    assert format_time(as_read) == format_time(moment)
    assert datetime.fromisoformat(format_time(as_read)) == moment


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_garbage_is_one_error(garbage: str) -> None:
    for order, kinds in (("id", [int]), ("name", [str, int]), ("updated_at", [datetime, int])):
        with pytest.raises(CursorError):
            decode_cursor(garbage, order, kinds)


@pytest.fixture(scope="module")
def in_tokyo() -> Iterator[None]:
    """Be where the clocks are nine hours ahead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


def request_for(query: bytes) -> Request:
    """Return a GET of /items."""
    return Request({"type": "http", "path": "/items", "raw_path": b"/items", "query_string": query, "headers": []})


def link_after(query: bytes, cursor: str | None) -> str | None:
    """Return the link that a page which was asked for by `query` gets."""
    return page_answer(request_for(query), TypeAdapter(list[int]), [1], cursor).headers.get("link")


def test_the_link_keeps_every_parameter_but_the_cursor() -> None:
    link = link_after(b"tag=a%26b&tag=%C3%A9&cursor=old&limit=5&odd=%22%3E%0d%0a", "new+/=")
    assert link == '</items?tag=a%26b&tag=%C3%A9&limit=5&odd=%22%3E%0D%0A&cursor=new%2B%2F%3D>; rel="next"'
    assert link_after(b"limit=5", None) is None
