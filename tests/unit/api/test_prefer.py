"""The Prefer header as RFC 7240 spells it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.consistency.prefer import parse_prefer

DEFAULT = 5.0


@pytest.mark.parametrize(
    ("header", "seconds", "applied"),
    [
        (None, DEFAULT, None),
        ("", DEFAULT, None),
        ("respond-async", 0, "respond-async"),
        ("RESPOND-async", 0, "respond-async"),
        ("wait=0", 0, "wait=0"),
        ("wait=7", 7, "wait=7"),
        ("Wait=7", 7, "wait=7"),
        ("wait=007", 7, "wait=7"),
        ("wait=30", 30, "wait=30"),
        ("wait=31", 30, "wait=30"),
        ("wait=999999999", 30, "wait=30"),
        # Both: wait so long, then answer 202.
        ("respond-async, wait=7", 7, "respond-async, wait=7"),
        ("wait=7,respond-async", 7, "respond-async, wait=7"),
        # Values may be quoted; an empty one is none.
        ('wait="7"', 7, "wait=7"),
        ('respond-async=""', 0, "respond-async"),
        ("respond-async=", 0, "respond-async"),
        ('wait=""', DEFAULT, None),
        # Blanks around =, ; and , mean nothing.
        ("  wait = 7  ", 7, "wait=7"),
        ("\twait=7\t,\trespond-async ", 7, "respond-async, wait=7"),
        # Parameters belong to their preference and change nothing here.
        ("respond-async; foo", 0, "respond-async"),
        ("respond-async;wait=7", 0, "respond-async"),
        ('wait=7; a=b; c="d, wait=1; e"; f', 7, "wait=7"),
        ("wait=7;;;", 7, "wait=7"),
        # Others are passed over, quoted commas and all.
        ("handling=lenient, wait=7, return=representation", 7, "wait=7"),
        ('foo="a, wait=1", wait=7', 7, "wait=7"),
        ('foo="a\\", wait=1", wait=7', 7, "wait=7"),
        ("wait-longer=1, x-wait=2, wait=7", 7, "wait=7"),
        # Of two equal ones the first counts, even if it makes no sense.
        ("wait=1, wait=7", 1, "wait=1"),
        ("wait=x, wait=7", DEFAULT, None),
        ("respond-async, RESPOND-ASYNC=x", 0, "respond-async"),
        # Empty members of the list.
        (",, wait=7 ,,", 7, "wait=7"),
        # Malformed ones are ignored.
        ("wait", DEFAULT, None),
        ("wait=", DEFAULT, None),
        ("wait=-1", DEFAULT, None),
        ("wait=+1", DEFAULT, None),
        ("wait=1.5", DEFAULT, None),
        ("wait=1e1", DEFAULT, None),
        ("wait=٣", DEFAULT, None),
        ("wait=" + "9" * 5000, DEFAULT, None),
        ("respond-async=yes", DEFAULT, None),
        ("respond_async", DEFAULT, None),
        ("=", DEFAULT, None),
        (";", DEFAULT, None),
        ('"wait=1"', DEFAULT, None),
        ('wait="1', DEFAULT, None),
        ("wait 1", DEFAULT, None),
        # What came before the mistake counts.
        ("wait=7, =, respond-async", 7, "wait=7"),
        ("respond-async, \xff", 0, "respond-async"),
    ],
)
def test_the_header_says_how_long_to_wait(header: str | None, seconds: float, applied: str | None) -> None:
    preference = parse_prefer(header, DEFAULT)
    assert (preference.wait_seconds, preference.applied) == (seconds, applied)
    assert preference.waits == (seconds > 0)


@given(st.text(st.sampled_from('respond-async wait="\\,;0123456789\t\xff')))
def test_no_header_breaks_it_and_none_waits_too_long(header: str) -> None:
    assert 0 <= parse_prefer(header, DEFAULT).wait_seconds <= 30


@pytest.mark.parametrize("piece", ["; ", ";;", "a;", 'a="', ", ", "a = ", "\\", '"\\', " "])
def test_a_long_header_is_read_in_linear_time(piece: str) -> None:
    begun = time.process_time()
    parse_prefer("wait" + piece * 20_000 + "!\x00", DEFAULT)
    assert time.process_time() - begun < 1
