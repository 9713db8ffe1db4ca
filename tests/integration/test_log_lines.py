"""One canonical line per request and per batch, in which everything is a field."""

from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from projector.relay import BatchCounts, Relay
from projector.subscriber import RelaySubscriber
from tests.fixtures.clients import ApiClient
from tests.fixtures.relays import Outbox

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
ADA = {"name": "Ada", "email": "ada@example.org"}


def the_line(lines: list[Any], event: str) -> Mapping[str, Any]:
    """Return the one line of this name."""
    (line,) = (line for line in lines if line["event"] == event)
    return dict(line)


def test_a_write_is_one_line_with_its_times_and_its_message(unprojected: ApiClient) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "Prefer": "wait=1"}
    with capture_logs() as lines:
        unprojected.post("/users", json=ADA, headers=headers)
    line = the_line(lines, "request")
    assert line.keys() == {
        "event", "log_level", "part", "method", "route", "status", "seconds", "trace_id", "message_id",
        "commit_seconds", "wait_seconds", "visibility",
    }  # fmt: skip
    assert (line["method"], line["route"], line["status"]) == ("POST", "/users", 202)
    assert (line["trace_id"], line["message_id"], line["visibility"]) == (TRACE_ID, 1, "pending")
    # The event loop counts in milliseconds, so a wait of one second may end a little before it by a finer clock.
    assert line["wait_seconds"] > 0.9
    assert 0 < line["commit_seconds"] < line["wait_seconds"] + line["commit_seconds"] < line["seconds"]


def test_a_read_and_a_command_that_fails_are_one_line_as_well(unprojected: ApiClient) -> None:
    for method, path, status in (("GET", "/users/1", 404), ("DELETE", "/users/1", 404), ("GET", "/nowhere", 404)):
        with capture_logs() as lines:
            unprojected.request(method, path)
        line = the_line(lines, "request")
        assert (line["method"], line["status"], line["log_level"]) == (method, status, "info")
        assert line.keys() == {"event", "log_level", "part", "method", "route", "status", "seconds"}


@pytest.mark.parametrize(("payload", "level"), [({}, "warning"), (None, "info")])
def test_a_batch_is_one_line_if_it_had_messages(
    relay: Relay, outbox: Outbox, payload: dict[str, Any] | None, level: str
) -> None:
    subscriber = RelaySubscriber(1)
    outbox.user(1)
    if payload is not None:
        outbox.append("user", 2, 1, "created", payload)
    with capture_logs() as lines:
        subscriber.batch(0, relay.run_once())
        subscriber.batch(0, BatchCounts())
    line = the_line(lines, "relay.batch")
    assert line["log_level"] == level
    assert line.keys() >= {"lane", "claimed", "applied", "stale", "settled", "failed", "dead", "unfinished", "seconds"}
    assert (line["settled"], line["failed"]) == (1, 0 if payload is None else 1)
