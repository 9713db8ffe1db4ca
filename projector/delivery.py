"""Delivery: messages -> projections -> one bulk write per collection -> an outcome per aggregate."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self

import pymongo
from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database

from projector.deadline import Deadline
from projector.outcomes import Aggregate, Failed, Outcome, Settled, Unfinished, aggregate_of, coalesce
from projector.phases import Phase, Phases
from projector.projections.gate import UnstorableDocumentError, Write, apply, write_of
from projector.projections.item import owner_of
from projector.projections.references import BEFORE_ALL, FanOut, correct_owners, fan_out_step
from projector.projections.registry import PROJECTIONS, Projection, project
from projector.replays import Shadow
from projector.settings import ProjectorSettings
from shared.events.registry import UnreadableEventError, read_event
from shared.installation import read_mark
from shared.mongo import Document, primary_process
from shared.mongo_time import MongoTime
from shared.outbox.message import OutboxMessage
from shared.read_models import ITEMS_READ, USERS_READ, OwnerDocument, ReadModel


@dataclass(frozen=True, slots=True)
class Delivered:
    """The result of a batch: the outcome per aggregate, what the gate said, MongoDB's time then, the phases' times.

    `owners`: item id -> the owner it was stored with, which nobody has looked at yet.
    """

    outcomes: Mapping[Aggregate, Outcome]
    owners: Mapping[int, OwnerDocument]
    applied: int
    stale: int
    time: MongoTime | None
    seconds: Mapping[Phase, float]


class Delivery:
    """Writes batches to the read models. It holds no state between batches."""

    def __init__(self, database: Database[Document], *, fan_out_step: int, fan_out_budget: float) -> None:
        self._database = database
        self._fan_out_step = fan_out_step
        self._fan_out_budget = fan_out_budget

    @classmethod
    def of(cls, settings: ProjectorSettings, database: Database[Document]) -> Self:
        """Return a delivery to `database` as the settings say."""
        return cls(database, fan_out_step=settings.fan_out_step, fan_out_budget=settings.fan_out_budget_seconds)

    @property
    def mongod(self) -> ObjectId | None:
        """Which process of mongod takes the writes now, as far as the driver knows."""
        return primary_process(self._database.client)

    def read_mark(self) -> Document | None:
        """Return the mark of the read models. Raises PyMongo's errors."""
        return read_mark(self._database)

    def deliver(self, messages: Sequence[OutboxMessage], deadline: Deadline, shadow: Shadow | None = None) -> Delivered:
        """Write what `messages` say and return the outcome of each aggregate.

        While a read model is replayed its shadow is written as well, before the live collection.
        Raises a transient error when a server could not do the work; then the whole batch must come again.
        """
        by_type: dict[str, list[OutboxMessage]] = {}
        # Of an aggregate that begins in this batch nothing is there yet.
        new = {
            aggregate_of(message) for message in messages if message.aggregate_version == 1 and not message.is_repair
        }
        for message in coalesce(messages):
            by_type.setdefault(message.aggregate_type, []).append(message)
        counts, phases = Counter[str](), Phases()
        outcomes: dict[Aggregate, Outcome] = {}
        owners: dict[int, OwnerDocument] = {}
        # Users come before items, so that a look at owners already sees the users of its own batch.
        with self._database.client.start_session(causal_consistency=True) as session:
            for aggregate_type, projection in PROJECTIONS.items():
                batch = by_type.pop(aggregate_type, [])
                if batch:
                    found, stored = self._deliver_to(projection, batch, new, counts, phases, deadline, session, shadow)
                    owners |= {write.aggregate_id: write.owner for write in stored if write.owner}
                    outcomes |= {(aggregate_type, aggregate_id): outcome for aggregate_id, outcome in found.items()}
            time = MongoTime.of_session(session)
        for message in chain.from_iterable(by_type.values()):
            outcomes[aggregate_of(message)] = Failed(f"unknown aggregate type {message.aggregate_type!r}")
        return Delivered(outcomes, owners, counts["applied"], counts["stale"], time, phases.seconds)

    def look_at_owners(self, delivered: Delivered, deadline: Deadline, shadow: Shadow | None = None) -> Delivered:
        """Correct the items just stored whose owner is stored at a newer version, and return what it came to.

        Raises as `deliver` does.
        """
        users = self._database[USERS_READ.name]
        outcomes = dict(delivered.outcomes)
        with self._database.client.start_session(causal_consistency=True) as session:
            # The look comes after the store, on whichever server it is read from.
            if delivered.time:
                delivered.time.advance(session)
            for items in self._collections(ITEMS_READ, shadow):
                refused = correct_owners(users, items, delivered.owners, deadline, session)
                outcomes |= {("item", item_id): Failed(error) for item_id, error in refused.items()}
            time = MongoTime.of_session(session)
        return replace(delivered, outcomes=outcomes, owners={}, time=time)

    def _deliver_to(  # noqa: PLR0913 - what a batch works with, handed on once
        self,
        projection: Projection,
        batch: Sequence[OutboxMessage],
        new: Container[Aggregate],
        counts: Counter[str],
        phases: Phases,
        deadline: Deadline,
        session: ClientSession,
        shadow: Shadow | None,
    ) -> tuple[dict[int, Outcome], list[Write]]:
        """Return the outcome of each aggregate, and what is stored of them now or was before."""
        writes, failed = _project(batch, projection, new)
        phases.ended("project")
        collections = self._collections(projection.read_model, shadow)
        errors: dict[int, str] = {}
        for collection in collections:
            result = apply(collection, writes, deadline, session)
            # What cannot be projected is written nowhere; whether that matters the live collection says.
            unwritten = {**result.refused, **(failed if collection is collections[-1] else {})}
            superseded = _superseded(collection, batch, unwritten, deadline, session)
            errors |= {i: error for i, error in unwritten.items() if i not in superseded}
            failed |= result.refused
        counts.update(applied=result.applied, stale=result.stale)
        outcomes: dict[int, Outcome] = {message.aggregate_id: Settled() for message in batch}
        outcomes |= {aggregate_id: Failed(error) for aggregate_id, error in errors.items()}
        phases.ended("write")
        stored = [write for write in writes if write.aggregate_id not in failed]
        if projection.is_owner:
            cursors = {message.aggregate_id: message.cursor for message in batch}
            left, refused = self._fan_out(stored, cursors, shadow, deadline, session)
            outcomes |= {fan_out.owner["id"]: Unfinished(fan_out.cursor) for fan_out in left}
            outcomes |= {user_id: Failed(error) for user_id, error in refused.items()}
            phases.ended("references")
        return outcomes, stored

    def _collections(self, live: ReadModel, shadow: Shadow | None) -> list[Collection[Document]]:
        """Return where the documents of a read model are written: its shadow while there is one, then itself."""
        names = [shadow.name] if shadow and shadow.aggregate_type == live.aggregate_type else []
        return [self._database[name] for name in (*names, live.name)]

    def _fan_out(
        self,
        writes: Iterable[Write],
        cursors: Mapping[int, int | None],
        shadow: Shadow | None,
        deadline: Deadline,
        session: ClientSession,
    ) -> tuple[list[FanOut], dict[int, str]]:
        """Carry owners into their items for as long as the budget allows.

        Returns what is left to do, and the errors of users whom an item could not take, by user id.
        """
        # Nothing can embed something older than the first version, and a tombstone is nobody's owner.
        left = [
            FanOut(owner_of(write.document), cursors[write.aggregate_id] or BEFORE_ALL, write.is_repair)
            for write in writes
            if (write.version > 1 or write.is_repair) and "deleted_at" not in write.document
        ]
        refused: dict[int, str] = {}
        budget = Deadline.after(self._fan_out_budget)
        collections = self._collections(ITEMS_READ, shadow)
        while left:
            left, errors = fan_out_step(collections, left, self._fan_out_step, deadline, session)
            refused |= errors
            if budget.has_passed():
                break
        return left, refused


def _project(
    batch: Iterable[OutboxMessage], projection: Projection, new: Container[Aggregate]
) -> tuple[list[Write], dict[int, str]]:
    """Return the writes for the gate, and the errors of messages that cannot be read or stored, by aggregate."""
    writes: list[Write] = []
    failed: dict[int, str] = {}
    for message in batch:
        try:
            document = project(read_event(message))
            is_new = aggregate_of(message) in new
            writes.append(write_of(document, projection.owner_field, is_repair=message.is_repair, is_new=is_new))
        except (UnreadableEventError, UnstorableDocumentError) as error:
            failed[message.aggregate_id] = str(error)
    return writes, failed


def _superseded(
    collection: Collection[Document],
    batch: Iterable[OutboxMessage],
    failed: Mapping[int, str],
    deadline: Deadline,
    session: ClientSession,
) -> set[int]:
    """Return which of the failed aggregates the read model shows at this version or a newer one all the same.

    A repair is superseded by a newer version only.
    """
    if not failed:
        return set()
    with pymongo.timeout(deadline.remaining()):
        stored = collection.find({"_id": {"$in": list(failed)}}, {"version": 1}, session=session)
        versions = {document["_id"]: document["version"] for document in stored}
    return {m.aggregate_id for m in batch if versions.get(m.aggregate_id, 0) >= m.aggregate_version + m.is_repair}
