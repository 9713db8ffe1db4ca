"""What a request carries into the outbox."""

import pytest

from api.middleware import trace_context

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("traceparent", [GOOD, GOOD.replace("00-", "cc-", 1), GOOD[:-2] + "00"])
def test_a_traceparent_goes_along(traceparent: str) -> None:
    assert trace_context("id", traceparent) == {"request_id": "id", "traceparent": traceparent}


@pytest.mark.parametrize(
    "traceparent",
    [
        "", GOOD.upper(), GOOD + "-x", GOOD[:-1], " " + GOOD, GOOD + "\n", GOOD.replace("00-", "ff-", 1),
        GOOD.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), GOOD.replace("b7ad6b7169203331", "0" * 16),
    ],
)  # fmt: skip
def test_one_that_is_malformed_does_not(traceparent: str) -> None:
    assert trace_context("id", traceparent) == {"request_id": "id"}
