"""The pool of PostgreSQL connections: of one size, with a queue that is bounded in time and in length.

Pooled connections that the server has closed are replaced before a command uses them. A server that ends a session
says so on its socket, where an idle connection expects nothing. Asking the socket costs microseconds; a ping of the
server would cost every command a round trip.
"""

import select
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolResetState

# Commands of some milliseconds empty such a queue within the pool's time-out. Whoever comes beyond that would wait for
# nothing, and is told so at once.
WAITING_PER_CONNECTION: Final = 50


class BoundedPool(AsyncAdaptedQueuePool):
    """A pool for which only so many wait. Lives on one event loop."""

    waiting = 0

    def _do_get(self) -> ConnectionPoolEntry:
        if self.checkedout() < self.size():
            return super()._do_get()
        if self.waiting >= self.size() * WAITING_PER_CONNECTION:
            raise PoolTimeoutError(f"{self.waiting} wait for a connection already")
        self.waiting += 1
        try:
            return super()._do_get()
        finally:
            self.waiting -= 1


def replace_stale_connections(engine: AsyncEngine) -> None:
    """Make the pool of `engine` look at the socket of each connection it hands out."""
    event.listen(engine.sync_engine, "checkout", _refuse_if_spoken_to)


def give_back_without_transaction(engine: AsyncEngine) -> None:
    """Make the pool of `engine` roll back what is open on a connection that is given back.

    It does so by itself, but not after a commit that broke off before it was sent: that it takes for the transaction's
    end. Whoever got the connection next would read what was never committed, and commit it with what is its own.
    """
    event.listen(engine.sync_engine, "reset", _roll_back_what_is_open)


def _roll_back_what_is_open(connection: Any, _record: object, state: PoolResetState) -> None:
    if state.asyncio_safe and not state.terminate_only:
        connection.rollback()


def _refuse_if_spoken_to(connection: Any, _record: object, _proxy: object) -> None:
    poll = select.poll()
    poll.register(connection.driver_connection.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        # The pool takes this as: throw it away and hand out another.
        raise DisconnectionError("the server has closed the connection")
