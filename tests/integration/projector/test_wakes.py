"""A wake reaches the lanes that would find its messages, and no other: to find nothing costs as much as to begin."""

import threading

import psycopg
import pytest

from projector.bell import Bell
from projector.position import ClaimPosition
from projector.settings import ProjectorSettings
from projector.wake import WakeListener, Woken
from shared.outbox.wake import Kind, Wake
from shared.postgres import WAKE_CHANNEL
from tests.fixtures.waiting import wait_until


class CountingBell(Bell):
    """A lane waits at it, and comes at once."""

    rings = 0

    def ring(self) -> bool:
        self.rings += 1
        return True


@pytest.mark.parametrize(("kind", "for_clients", "for_all"), [("awaited", 1, 0), ("unawaited", 0, 1), ("any", 1, 1)])
def test_a_wake_rings_where_its_messages_are_claimed(
    settings: ProjectorSettings, postgres: psycopg.Connection, kind: Kind, for_clients: int, for_all: int
) -> None:
    clients, others = CountingBell(), CountingBell()
    listener = WakeListener(settings, "test", Woken(others, ClaimPosition()), Woken(clients, ClaimPosition()))
    stop = threading.Event()
    listening = threading.Thread(target=listener.run, args=(stop,))
    listening.start()
    try:
        wait_until(lambda: others.rings == 1, "it listens, and has rung at both")
        for wake in (Wake(7, kind), Wake(8)):
            postgres.execute("SELECT pg_notify(%s, %s)", (WAKE_CHANNEL, wake.encode()))
        wait_until(lambda: others.rings == 2 + for_all, "it has heard both")
        assert clients.rings == 2 + for_clients
    finally:
        stop.set()
        listening.join(20)
