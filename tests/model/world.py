"""Both databases and those who work on them: whoever tells a story says what each of them does."""

from collections import Counter
from contextlib import ExitStack, suppress
from typing import Final, Self
from unittest.mock import patch

from psycopg.errors import LockNotAvailable

from api.settings import ApiSettings
from api.unit_of_work import Committed
from projector import claims, dead_letters, relay, repair, replay, sides, tombstones
from projector.dead_letters import Selection
from projector.relay import BatchCounts
from projector.replays import ReplayError
from projector.retry import TRANSIENT
from projector.settings import ProjectorSettings
from shared import read_models_lock
from shared.events.event import Event
from shared.installation import mark_read_models, read_installation
from shared.mongo import create_client, ensure_read_models, read_model_database
from shared.outbox.append import append_all
from shared.postgres import connect
from shared.read_models import READ_MODELS
from shared.shadows import drop_shadows
from tests.model.commands import LOCK_MILLISECONDS, BusyError, Command, Commands, OpenCommand
from tests.model.harm import Harm
from tests.model.judge import Judge
from tests.model.lane import Lane
from tests.model.operators import Operators
from tests.model.pauses import PausingListener
from tests.model.stage import EndedError, Stage

# How lanes differ: one that takes all there is, one that takes little at a time, one that serves waiting clients alone.
LANES: Final = {
    "whole": {"batch_size": 100},
    "small": {"batch_size": 2},
    "serving": {"batch_size": 10},
}
ACTORS: Final = (*LANES, "replay", "verify", "operator")

# Nothing hangs on the time that passes here: a fan-out reaches one item a batch, no deadline comes, what failed is due
# at once, and tombstones are old.
SETTINGS: Final = {
    "fan_out_step": 1,
    "fan_out_budget_seconds": 0,
    "batch_deadline_seconds": 300,
    "tombstone_days": 0,
    "max_attempts": 2,
    "retry_pause_seconds": 0,
}

# Pages of a few, so that there are several; and whoever wants to be alone waits until he is.
SMALLER: Final = (
    (replay, "PAGE", 3),
    (sides, "PAGE", 4),
    (sides, "DEEP_PAGE", 4),
    (repair, "BATCH", 2),
    (tombstones, "SEEN_BEFORE_SECONDS", 1.0),
    (claims, "DUE_SECONDS", 0.0),
    (relay, "HEARTBEAT_SECONDS", float("inf")),
    (read_models_lock, "FIRST_PATIENCE_SECONDS", 300.0),
    (read_models_lock, "LONGEST_PATIENCE_SECONDS", 300.0),
)

TABLES: Final = ("item_tags", "items", "users", "tags", "outbox", "outbox_failures", "replays", "projectors")
COUNTED: Final = ("users", "items", "tags", "outbox", "replays")
# Cheaper than TRUNCATE where there are few rows.
EMPTY: Final = "; ".join(
    [f"DELETE FROM {table}" for table in TABLES]
    + [f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), 1, false)" for table in COUNTED]
)

# Deadlocks are found at once. Autovacuum, which is not on the stage, takes no lock that stops anybody.
PREPARE: Final = "; ".join(
    ["DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 10', current_database()); END $$"]
    + [f"ALTER TABLE {table} SET (vacuum_truncate = false)" for table in TABLES]
)

HAS_WORK: Final = """
    SELECT EXISTS (SELECT FROM outbox) OR EXISTS (SELECT FROM outbox_failures WHERE state = 'retrying')
"""

WAITS: Final = """
    SELECT waiting.application_name, array_agg(coalesce(holding.application_name, ''))
    FROM pg_locks JOIN pg_stat_activity AS waiting USING (pid)
    CROSS JOIN LATERAL unnest(pg_blocking_pids(pid)) AS held (by)
    LEFT JOIN pg_stat_activity AS holding ON holding.pid = held.by
    WHERE NOT granted AND waiting.datname = current_database() GROUP BY 1
"""


class Clock:
    """The time that hints go by; it stands still until the story says otherwise."""

    now = 0.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


class World:
    """Two databases, and who works on them. `tally` counts what happens, over all stories."""

    def __init__(self, settings: ProjectorSettings, api_settings: ApiSettings) -> None:
        self._settings = settings.model_copy(update=SETTINGS)
        self._api_settings = api_settings
        self._stack = ExitStack()
        self.tally: Counter[str] = Counter()
        self.clock = Clock()
        self.open: list[OpenCommand] = []

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        for module, name, value in SMALLER:
            enter(patch.object(module, name, value))
        self._commands = enter(Commands(self._api_settings))
        # Nobody moves while the story acts itself: what it had to wait for would never come.
        self.postgres = enter(connect(self._settings, "story", autocommit=True, lock_timeout=LOCK_MILLISECONDS))
        self._observer = enter(connect(self._settings, "observer", autocommit=True))
        self._observer.execute(PREPARE)
        self.read_models = read_model_database(enter(create_client(self._settings, "story")), self._settings)
        ensure_read_models(self.read_models)
        self.judge = Judge(self.postgres, self.read_models)
        self.harm = Harm(self.read_models)
        self.stage = Stage(ACTORS, lambda: bool(self.open), self._waits)
        client = enter(create_client(self._settings, "actors", event_listeners=[PausingListener(self._has_changed)]))
        database = read_model_database(client, self._settings)
        self._lanes = {
            name: Lane(
                name,
                self._settings.model_copy(update=how),
                database,
                self.clock,
                on_settled=self.judge.check_settled,
                on_batch=self._relayed,
                on_fault=self._fault,
            )
            for name, how in LANES.items()
        }
        for lane in self._lanes.values():
            self._stack.callback(lane.close)
        self.operators = Operators(self._settings, database, self.clock)
        self._was_replayed = False
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def begin_story(self) -> None:
        """Make both databases empty, as they were before the first command, and every process new."""
        self.postgres.execute(EMPTY)
        if self._was_replayed:
            drop_shadows(self.read_models)
        if self.judge.is_emptied:
            ensure_read_models(self.read_models)
            mark_read_models(self.postgres, self.read_models, read_installation(self.postgres))
        self.harm.accept()
        for read_model in READ_MODELS:
            self.read_models[read_model.name].delete_many({})
        self.judge.begin_story()
        self.clock.now = 0.0
        self.time_has_passed = False
        installation = read_installation(self.postgres).incarnation
        for lane in self._lanes.values():
            lane.begin_story(installation)
        self.operators.begin_story()
        self.sent: list[Event] = []
        self.has_dead_letters = self.is_half_empty = self.may_have_left_shadows = self._was_replayed = False
        self.tally["stories"] += 1

    def end_story(self) -> None:
        """Let everybody go, whatever has happened."""
        for command in self.open:
            command.roll_back()
        self.open.clear()
        self.stage.clear()

    # Commands.

    def do(self, command: Command, *, awaited: bool = False, heard: bool = False) -> Event | None:
        """Run a command. Returns None when somebody holds what it needs; raises what the command raises."""
        try:
            done = self._commands.do(command, awaited=awaited)
        except BusyError:
            self.tally["commands that met a lock"] += 1
            return None
        self._committed(done)
        if heard:
            for lane in self._lanes.values():
                lane.wake(done.message_id)
        return done.event

    def begin(self, command: Command) -> Event | None:
        """Run a command up to its commit."""
        try:
            self.open.append(self._commands.begin(command))
        except BusyError:
            self.tally["commands that met a lock"] += 1
            return None
        return self.open[-1].event

    def end_transaction(self, index: int, *, commits: bool) -> None:
        """Let one of the open commands be committed, or come to nothing."""
        command = self.open.pop(index)
        if commits:
            self._committed(command.commit())
        else:
            command.roll_back()
        self.tally["late commits" if commits else "commands rolled back"] += 1
        self._let_go_on()

    def _committed(self, done: Committed) -> None:
        event = done.event
        self.judge.oracle.fold(event)
        self.sent.append(event)
        self.tally["commands"] += 1
        what = f"{event.event_type} {event.aggregate_id} v{event.aggregate_version}"
        self.stage.lines.append(f"message {done.message_id}: {what}")

    def send_again(self, index: int) -> None:
        """Append a message once more, unless nothing is left that keeps it out."""
        event = self.sent[index % len(self.sent)]
        if not self.judge.oracle.has(event.aggregate_type, event.aggregate_id):
            tombstone = {"_id": event.aggregate_id, "deleted_at": {"$exists": True}}
            if not self.read_models[f"{event.aggregate_type}s_read"].find_one(tombstone):
                return
        with self.postgres.cursor() as cursor:
            append_all(cursor, [event])
        self.tally["messages sent again"] += 1

    # Those on the stage.

    def relay(self, name: str, moves: int) -> None:
        """Let a lane go on with its batch, or begin one if there is anything to claim."""
        if self.stage.actors[name].is_idle:
            if self.postgres.execute(HAS_WORK).fetchone() == (False,):
                return
            self.stage.begin(name, self._lanes[name].relay)
            self.time_has_passed = False
        self.go_on(name, moves)

    def go_on(self, name: str, moves: int) -> None:
        """Let anybody go on with what they do."""
        self.stage.go_on(name, moves)
        self._let_go_on()

    def end(self, name: str, how: type[EndedError]) -> None:
        """End what somebody does in the middle."""
        if self.stage.is_free(name):
            self.stage.end(name, how)
            self.tally[f"{name} {how.what}"] += 1
            self.may_have_left_shadows |= name == "replay"

    def let_time_pass(self) -> None:
        """Let sweeps become due, and tombstones old."""
        self.clock.now += 1
        self.time_has_passed = True

    def begin_replay(self, aggregate_type: str) -> None:
        """Let a replay begin."""
        self._was_replayed = True

        def act() -> None:
            try:
                self.operators.replay(aggregate_type)
            except ReplayError as error:
                # An owner that is ahead of its row is copied into its items, and found.
                is_cancelled = type(error) is not ReplayError
                if not (is_cancelled or self.judge.is_emptied or self.judge.spoiled):
                    raise
                self._fault("replay", error)
            except TRANSIENT as error:
                self._fault("replay", error)
            else:
                self.tally["replays"] += 1

        self.stage.begin("replay", act)

    def begin_verification(self, *, repairs: bool) -> None:
        """Let a verification begin."""

        def act() -> None:
            self.operators.verify_beside_others(repair=repairs, on_drift=self.judge.check_drift)
            self.tally["verifications"] += 1

        self.stage.begin("verify", act)

    def begin_cleaning(self) -> None:
        """Let somebody empty the read models."""
        self.judge.is_emptied = self.is_half_empty = True

        def act() -> None:
            self.operators.clean()
            self.is_half_empty = False
            self.tally["cleanings"] += 1

        self.stage.begin("operator", act)

    def begin_cancelling(self) -> None:
        """Let somebody cancel the replay at work."""
        self.stage.begin("operator", self.operators.cancel)

    def begin_purge(self) -> None:
        """Let old tombstones be purged."""

        def act() -> None:
            try:
                self.tally["tombstones purged"] += self.operators.purge()
            except TRANSIENT as error:
                self._fault("operator", error)

        self.stage.begin("operator", act)

    # What goes wrong, and who mends it.

    def refuse(self, what: str) -> None:
        """Let MongoDB refuse some documents."""
        self.harm.refuse(what)

    def spoil(self, collection: str, aggregate_id: int, how: str) -> None:
        """Change a document past the service."""
        self.judge.spoiled.add((collection, aggregate_id))
        self.harm.spoil(collection, aggregate_id, how)
        self._has_changed()
        self.tally["documents spoiled"] += 1

    def answer_dead_letters(self, *, retry: bool) -> None:
        """Let an operator mend what they failed for and retry all dead letters, or discard them."""
        if retry:
            self.harm.accept()
        act, excused = (dead_letters.retry, self.judge.retried) if retry else (dead_letters.discard, self.judge.spoiled)
        dead = dead_letters.find(self.postgres, Selection.of_all())
        with suppress(LockNotAvailable):
            self.tally["dead letters retried" if retry else "dead letters discarded"] += len(
                act(self.postgres, Selection.of_all())
            )
            excused |= {(f"{letter.aggregate_type}s_read", letter.aggregate_id) for letter in dead}
            self.has_dead_letters = False

    def finish(self) -> None:
        """Let everybody come to the end of what they do."""
        self.stage.finish()
        self._let_go_on()

    def _relayed(self, counts: BatchCounts) -> None:
        self.tally["batches"] += bool(counts.claimed)
        self.has_dead_letters |= counts.dead > 0
        for name in ("settled", "stale", "failed", "dead", "unfinished", "superseded"):
            self.tally[f"messages {name}"] += getattr(counts, name)

    def _fault(self, name: str, error: BaseException) -> None:
        """Somebody gives up for now what others or a server do not let him do."""
        self.tally[f"{name} gave up for now"] += 1
        self.stage.lines.append(f"{name} gives up: {' '.join(str(error).split())[:100]}")

    def _let_go_on(self) -> None:
        """Somebody may have let a lock go, or sent repairs."""
        self.stage.wait()
        self.tally["repairs"] += self.judge.take_in_repairs()

    def _has_changed(self) -> None:
        self.judge.may_have_changed = True

    def _waits(self) -> dict[str, set[str]]:
        """Return who waits for a lock, and whom each of them waits for."""
        return {name: set(held_by) for name, held_by in self._observer.execute(WAITS)}
