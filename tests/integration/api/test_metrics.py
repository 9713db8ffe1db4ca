"""The API's metrics: they count what happened, never who asked, and never show a number that nobody looked up."""

import threading
from collections.abc import Callable
from typing import Final

import psycopg
import pytest
from pydantic import SecretStr

from projector.process import Projector
from projector.relay import Relay
from tests.fixtures.clients import ApiClient
from tests.fixtures.scrapes import scrape
from tests.fixtures.waiting import wait_until

# A projection may take its time on a busy machine.
PATIENT: Final = {"Prefer": "wait=30"}


def test_every_command_and_every_wait_is_counted_once(api: ApiClient, running_projector: Projector) -> None:
    user = api.new_user(**PATIENT)
    for _ in range(3):
        api.put(f"/users/{user['id']}", json={}, headers=PATIENT)
    api.post("/users", json={"name": "Eve", "email": user["email"]})
    counted = scrape(api)

    assert counted.total("kata_api_requests_total", method="POST", route="/users", status="201") == 1
    assert counted.total("kata_api_requests_total", method="POST", route="/users", status="409") == 1
    assert counted.total("kata_api_requests_total", method="PUT", route="/users/{user_id}", status="200") == 3
    assert counted.total("kata_api_request_seconds_count", method="PUT") == 3
    assert counted.total("kata_api_commit_seconds_count") == 4
    assert counted.total("kata_api_wait_seconds_count", kind="write") == 4
    assert counted.total("kata_api_wait_timeouts_total") == 0
    assert counted.total("kata_api_waiters") == 0


def test_a_write_that_waits_is_shown_until_it_is_visible(api: ApiClient, relay: Relay) -> None:
    writer = threading.Thread(target=api.new_user, kwargs=PATIENT)
    writer.start()
    wait_until(lambda: scrape(api).total("kata_api_waiters", kind="write") == 1, "the write waits")
    relay.run_once()
    writer.join(30)
    counted = scrape(api)

    assert counted.total("kata_api_waiters") == 0
    assert counted.total("kata_api_wait_seconds_count", kind="write") == 1
    assert counted.total("kata_api_wait_timeouts_total") == 0


def test_a_write_that_waits_in_vain_is_counted(api: ApiClient) -> None:
    api.new_user(Prefer="wait=2")
    counted = scrape(api)

    assert counted.total("kata_api_waiters") == 0
    assert counted.total("kata_api_wait_timeouts_total", kind="write") == 1
    assert counted.total("kata_api_wait_seconds_sum", kind="write") >= 1.9
    wait_until(lambda: scrape(api).total("kata_lag_seconds") >= 2, "the lag is looked up without any projector")


def test_a_read_with_a_token_that_waits_in_vain_is_counted_apart(api: ApiClient) -> None:
    asynchronous = {"Prefer": "respond-async"}
    token = api.post("/users", json={"name": "A", "email": "a@example.org"}, headers=asynchronous)
    read = api.get("/users", headers={"Consistency-Token": token.headers["Consistency-Token"], "Prefer": "wait=1"})
    assert read.status_code == 503
    counted = scrape(api)

    assert counted.total("kata_api_wait_timeouts_total", kind="read") == 1
    assert counted.total("kata_api_wait_timeouts_total", kind="write") == 0
    assert counted.total("kata_api_wait_seconds_count", kind="read") == 1
    assert counted.total("kata_api_wait_seconds_count", kind="write") == 0, "it did not wait"


def test_nothing_that_a_client_makes_up_becomes_a_label(unprojected: ApiClient) -> None:
    for number in range(5):
        unprojected.get(f"/items/{number + 4711}")
        unprojected.get(f"/nowhere/{number}")
        unprojected.request("PROPFIND", "/items")
    counted = scrape(unprojected)

    assert "4711" not in counted.text
    assert "PROPFIND" not in counted.text
    assert "nowhere" not in counted.text
    assert counted.total("kata_api_requests_total", route="/items/{item_id}", status="404") == 5
    assert counted.total("kata_api_requests_total", route="unmatched", status="404") == 5
    assert counted.total("kata_api_requests_total", method="other") == 5


def test_the_pool_shows_who_is_busy_and_who_waits(
    make_api: Callable[..., ApiClient], postgres: psycopg.Connection
) -> None:
    patient = {"database_pool_timeout_seconds": 60, "statement_timeout_seconds": 60, "request_timeout_seconds": 90}
    api = make_api(database_pool_size=1, default_wait_seconds=0, **patient)
    user = api.new_user()
    with postgres.transaction():
        postgres.execute("SELECT FROM users FOR UPDATE")
        writers = [
            threading.Thread(target=api.put, args=(f"/users/{user['id']}",), kwargs={"json": {}}) for _ in range(2)
        ]
        for writer in writers:
            writer.start()
        wait_until(lambda: scrape(api).total("kata_api_pool_waiting_requests") == 1, "a command waits")
        assert scrape(api).total("kata_api_pool_busy_connections") == 1
    for writer in writers:
        writer.join(20)
    counted = scrape(api)

    assert counted.total("kata_api_pool_limit_connections") == 1
    assert counted.total("kata_api_pool_waiting_requests") == 0


@pytest.mark.parametrize("database_url", ["postgresql://kata:kata@127.0.0.1:1/kata"])
def test_a_postgresql_that_is_away_leaves_the_lag_out_instead_of_showing_an_old_one(
    make_api: Callable[..., ApiClient], database_url: str
) -> None:
    counted = scrape(make_api(database_url=SecretStr(database_url)))
    assert 'kata_store_up{store="postgres"} 0.0' in counted.text
    assert "kata_lag_seconds" not in counted.series
