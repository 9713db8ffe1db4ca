"""Dead letters as the page gets them, and what becomes of them."""

from collections.abc import Callable

import psycopg
import pytest
import structlog

from projector.relay import Relay
from shared.postgres import WAKE_CHANNEL
from tests.fixtures.consoles import Console, DeadLetters, Operators
from tests.fixtures.relays import Outbox, drain


@pytest.fixture
def console(make_console: Callable[..., Console], operators: Operators) -> Console:
    """A port whose client is Otto."""
    made = make_console(tokens=operators.setting)
    made.headers.update(operators.header("operate"))
    return made


def test_what_differs_in_numbers_alone_is_one_group(console: Console, buried: DeadLetters) -> None:
    for number in range(3):
        buried.bury(number + 1, error=f"document {number} is {number * 17} bytes too large")
    buried.bury(10, error="unknown event type 'user.exploded'")
    groups = console.get("/api/dead-letters").json()["groups"]
    assert [(group["number"], group["first_id"]) for group in groups] == [(3, 1), (1, 10)]
    assert groups[0]["error"] == "document 2 is 34 bytes too large"


def test_a_group_is_read_page_by_page(console: Console, buried: DeadLetters) -> None:
    for number in range(1, 46):
        buried.bury(number)
    group = console.get("/api/dead-letters").json()["groups"][0]["group"]
    ids, after = [], 0
    while after is not None:
        page = console.get("/api/dead-letters/messages", params={"group": group, "after": after}).json()
        ids += [message["id"] for message in page["messages"]]
        after = page["next"]
    assert ids == list(range(1, 46))


def test_one_is_shown_with_its_payload(console: Console, buried: DeadLetters) -> None:
    buried.bury(7, name="<script>alert(1)</script>")
    shown = console.get("/api/dead-letters/messages/7").json()
    assert shown["payload"] == {"name": "<script>alert(1)</script>"}
    assert (shown["event_type"], shown["attempts"], shown["error"]) == ("user.created", 3, "refused")
    assert console.get("/api/dead-letters/messages/8").status_code == 404


def test_a_retried_message_settles_once_its_cause_is_mended(
    console: Console, outbox: Outbox, relay: Relay, buried: DeadLetters
) -> None:
    payload = {"id": 7, "name": "Ada", "email": "ada@example.org", "schema_version": 1}
    times = {"created_at": "2026-01-02T03:04:05.678Z", "updated_at": "2026-01-02T03:04:05.678Z"}
    buried.bury(7, **payload, **times)
    assert console.post("/api/dead-letters/retry", json={"ids": [7]}).json() == {"count": 1}
    assert (outbox.ids(), buried.states()) == ([7], {})
    drain(relay)
    assert (outbox.ids(), buried.states()) == ([], {})


def test_a_retry_wakes_the_relay_with_the_lowest_id(
    console: Console, postgres: psycopg.Connection, buried: DeadLetters
) -> None:
    buried.bury(7)
    buried.bury(5)
    postgres.execute(f"LISTEN {WAKE_CHANNEL}")
    console.post("/api/dead-letters/retry", json={"ids": [7, 5]})
    (wake,) = postgres.notifies(timeout=30, stop_after=1)
    assert wake.payload == "5"


def test_of_two_operators_one_retries(console: Console, outbox: Outbox, buried: DeadLetters) -> None:
    buried.bury(7)
    assert console.post("/api/dead-letters/retry", json={"ids": [7]}).json() == {"count": 1}
    assert console.post("/api/dead-letters/retry", json={"ids": [7]}).json() == {"count": 0}
    assert outbox.ids() == [7]


def test_a_group_or_all_can_be_discarded(console: Console, buried: DeadLetters) -> None:
    buried.bury(1, error="error 1")
    buried.bury(2, error="error 2")
    buried.bury(3, error="another")
    group = console.get("/api/dead-letters").json()["groups"][0]["group"]
    assert console.post("/api/dead-letters/discard", json={"group": group}).json() == {"count": 2}
    assert buried.states() == {1: "discarded", 2: "discarded", 3: "dead"}
    assert console.post("/api/dead-letters/discard", json={"all": True}).json() == {"count": 1}
    assert console.get("/api/dead-letters").json() == {"groups": []}


def test_every_action_is_logged_with_the_name_of_the_token(console: Console, buried: DeadLetters) -> None:
    buried.bury(7)
    with structlog.testing.capture_logs() as lines:
        console.post("/api/dead-letters/discard", json={"ids": [7]})
    (line,) = [line for line in lines if line["event"] == "console.operated"]
    assert (line["operator"], line["action"], line["number"], line["ids"]) == ("otto", "discard", 1, [7])
    assert line["selected"] == {"ids": [7]}
