"""What browsers are sent while they watch."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from projector.console import feed as feed_module
from projector.settings import ProjectorSettings
from tests.fixtures.consoles import Console, serving_console
from tests.fixtures.relays import Outbox
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import OwnServers, migrate


def sights(console: Console) -> Any:
    return closing(event for name, event in console.watch() if name == "sight")


def test_a_change_is_seen_without_asking_again(make_console: Callable[..., Console], outbox: Outbox) -> None:
    with sights(make_console()) as seen:
        assert next(seen)["overview"]["backlog"] == 0
        outbox.bulk(3)
        assert any(event["overview"]["backlog"] == 3 for event in seen)


def test_any_projector_shows_the_same(make_console: Callable[..., Console], outbox: Outbox) -> None:
    outbox.bulk(3)
    shown = [make_console(name).get("/api/overview").json()["overview"] for name in ("kata-projector a:1", "b:2")]
    for overview in shown:
        del overview["at"], overview["lag_seconds"]
    assert shown[0] == shown[1]
    assert shown[0]["backlog"] == 3


def test_who_comes_later_is_told_what_was_seen_before(make_console: Callable[..., Console]) -> None:
    console = make_console()
    with sights(console) as first:
        next(first)
        next(first)
        with closing(console.watch()) as second:
            name, history = next(second)
    assert name == "history"
    assert len(history) >= 2


def test_nobody_looks_when_nobody_watches(make_console: Callable[..., Console]) -> None:
    console = make_console()
    with sights(console) as seen:
        next(seen)
    poller = console.feed._poller  # noqa: SLF001 - there is no other trace of nothing
    assert poller
    wait_until(poller.done, "the poller has ended")


def test_streams_are_bounded(make_console: Callable[..., Console], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "MAX_STREAMS", 1)
    console = make_console()
    with sights(console) as seen:
        next(seen)
        refused = console.get("/events")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "10")
    wait_until(lambda: not console.feed.is_full, "the place is free again")
    with sights(console) as seen:
        assert next(seen)


def test_streams_end_when_the_projector_does(settings: ProjectorSettings) -> None:
    with serving_console(settings) as console:
        events = console.watch()
        assert next(events)[0] == "history"
        assert next(events)[0] == "sight"
        console.server.__exit__(None, None, None)
        assert [name for name, _ in events][-1] == "end"


def test_stores_that_are_away_are_named_and_the_port_goes_on_answering(own_servers: OwnServers) -> None:
    migrate(own_servers.settings)
    with serving_console(own_servers.settings) as console, sights(console) as seen:
        first = next(seen)
        assert (first["postgres_fault"], first["mongo_fault"]) == ("", "")
        own_servers.postgres.stop()
        own_servers.mongod.stop()
        try:
            away = next(event for event in seen if event["postgres_fault"] and event["mongo_fault"])
            assert away["overview"] is None
            assert console.get("/").status_code == 200
            assert console.get("/api/dead-letters").status_code == 503
        finally:
            own_servers.postgres.restart()
            own_servers.mongod.restart()
        assert any(event["overview"] and not event["mongo_fault"] for event in seen)
