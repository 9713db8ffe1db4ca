"""What the steps of the model work on: real commands, and relays that are stepped, interleaved and ended."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Self

from pymongo.database import Database
from pymongo.monitoring import CommandListener, CommandStartedEvent

from api.settings import ApiSettings
from api.unit_of_work import Committed, UnitOfWork
from projector.connection import open_relay_connection
from projector.delivery import Delivery
from projector.position import ClaimPosition
from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.events.event import Event
from shared.mongo import Document, create_client, ensure_read_models, read_model_database
from shared.outbox.append import append_all
from shared.postgres import connect, create_engine
from shared.read_models import READ_MODELS
from tests.model.oracle import Oracle

# How lanes differ: one that takes all there is, one that takes little at a time, one that clients wait for.
LANES: Final = {
    "whole": {"batch_size": 100},
    "small": {"batch_size": 2},
    "serving": {"batch_size": 10},
}
# A fan-out reaches two items a step, so that it is interleaved as well.
STEPS: Final = {"fan_out_step": 2, "fan_out_budget_seconds": 0.001}


class EndedError(BaseException):
    """A lane ends here as if its process was killed: nothing of ours may catch this."""


class Interruption(CommandListener):
    """Lets something happen just before a lane sends its next MongoDB commands but `after`."""

    def __init__(self) -> None:
        self._left = 0
        self._action: Callable[[], object] | None = None

    def arm(self, action: Callable[[], object], *, after: int) -> None:
        """Run `action` once, on the sending thread."""
        self._left, self._action = after, action

    def disarm(self) -> None:
        """Forget what was to happen."""
        self._action = None

    def started(self, event: CommandStartedEvent) -> None:
        """Count the commands of a batch down."""
        if self._action is None or event.command_name not in ("update", "insert", "bulkWrite", "find", "aggregate"):
            return
        self._left -= 1
        if self._left < 0:
            action, self._action = self._action, None
            action()

    def succeeded(self, event: Any) -> None:
        """Nothing."""

    def failed(self, event: Any) -> None:
        """Nothing."""


class Lane:
    """A relay with a MongoDB client of its own."""

    def __init__(self, settings: ProjectorSettings, name: str, stack: ExitStack) -> None:
        self.interruption = Interruption()
        client = stack.enter_context(create_client(settings, name, event_listeners=[self.interruption]))
        database = read_model_database(client, settings)
        awaited = ClaimPosition() if name == "serving" else None
        self.position = ClaimPosition()
        connection = partial(open_relay_connection, settings, name, database)
        self.relay = Relay(settings, connection, Delivery.of(settings, database), self.position, awaited, name=name)
        stack.callback(self.relay.close)

    def step(self) -> int:
        """Relay one batch, unless it is ended in the middle; return how many messages it claimed."""
        try:
            return self.relay.run_once().claimed
        except EndedError:
            return 0
        finally:
            self.interruption.disarm()


class World:
    """Both databases of one test, the commands on them, the lanes between them, and the oracle."""

    def __init__(self, settings: ProjectorSettings, api_settings: ApiSettings) -> None:
        self._settings = settings
        self._api_settings = api_settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        self._runner = enter(asyncio.Runner())
        self._engine = self._runner.run(self._create_engine())
        self._stack.callback(lambda: self._runner.run(self._engine.dispose()))
        self.postgres = enter(connect(self._settings, "test", autocommit=True))
        self._holder = enter(connect(self._settings, "test holder", autocommit=False))
        client = enter(create_client(self._settings, "test"))
        self.read_models: Database[Document] = read_model_database(client, self._settings)
        ensure_read_models(self.read_models)
        self.lanes = {
            name: Lane(self._settings.model_copy(update={**STEPS, **how}), name, self._stack)
            for name, how in LANES.items()
        }
        self.oracle = Oracle()
        self.sent: list[Event] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def _create_engine(self) -> Any:
        return create_engine(self._api_settings, "test commands", pool_size=1, pool_timeout=5)

    def reset(self) -> None:
        """Make both databases empty, as they were before the first command."""
        self.release()
        self.postgres.execute(
            "TRUNCATE users, items, tags, item_tags, outbox, outbox_failures, replays, verifications RESTART IDENTITY"
        )
        for read_model in READ_MODELS:
            self.read_models[read_model.name].delete_many({})
        for lane in self.lanes.values():
            lane.position.take_back(0)
        self.oracle = Oracle()
        self.sent = []

    def do(self, command: Callable[[UnitOfWork], Coroutine[Any, Any, Committed]], *, awaited: bool = False) -> Event:
        """Run a command; what it did is known to the oracle. Raises what the command raises."""
        work = UnitOfWork(self._engine, awaited=awaited, trace_context=None)
        event = self._runner.run(command(work)).event
        self.oracle.fold(event)
        self.sent.append(event)
        return event

    def send_again(self, event: Event) -> None:
        """Append a message once more, long after its time."""
        with self.postgres.cursor() as cursor:
            append_all(cursor, [event])

    def hold(self, count: int) -> None:
        """Keep the oldest messages from every lane, as a transaction that has not committed does."""
        self.release()
        self._holder.execute("SELECT id FROM outbox ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED", (count,))

    def release(self) -> None:
        """Let them go."""
        self._holder.rollback()

    def drain(self) -> None:
        """Let all that can be settled be settled."""
        self.release()
        for _ in range(1000):
            if not self.unsettled():
                return
            for lane in self.lanes.values():
                lane.position.take_back(0)
                lane.step()
        raise AssertionError(f"not settled: {self.unsettled()}")

    def unsettled(self) -> list[Any]:
        """Return the messages that wait."""
        return self.postgres.execute("SELECT * FROM outbox ORDER BY id").fetchall()

    def documents(self) -> dict[tuple[str, int], Document]:
        """Return every document of every read model, by collection and id."""
        return {
            (read_model.name, document["_id"]): document
            for read_model in READ_MODELS
            for document in self.read_models[read_model.name].find({"deleted_at": None})
        }
