"""Guards of what is written to MongoDB: the gate, tombstones, references, and how far a write is acknowledged."""

from typing import Final

from tests.controls.control import Change, Control

GATE: Final = "projector/projections/gate.py"
DELIVERY: Final = "projector/delivery.py"
REFERENCES: Final = "projector/projections/references.py"
MONGO: Final = "shared/mongo.py"

EXACTLY_ONCE: Final = "tests/integration/projector/test_invariant_02_effect_exactly_once.py"
NO_RESURRECTION: Final = "tests/integration/projector/test_invariant_03_no_resurrection.py"
DURABLE: Final = "tests/integration/projector/test_invariant_04_settled_means_durable.py"
CONVERGE: Final = "tests/integration/projector/test_invariant_07_references_converge.py"
ISOLATED: Final = "tests/integration/projector/test_invariant_08_poison_is_isolated.py"
REPAIR: Final = "tests/integration/projector/test_repair.py"

CONTROLS: Final = (
    Control(
        "version gate",
        serves="2: effect exactly once",
        without="whatever comes last is written",
        changes=[
            Change(
                GATE,
                old='is_newer = {_older(is_repair=write.is_repair): [{"$ifNull": ["$version", 0]}, write.version]}',
                new='is_newer = {"$literal": True}',
            )
        ],
        noticed_by={
            EXACTLY_ONCE: ["test_the_newest_version_stays_in_whatever_order_versions_come"],
            NO_RESURRECTION: ["test_a_late_upsert_finds_the_tombstone_and_leaves_it"],
        },
    ),
    Control(
        "retry of the duplicate key",
        serves="2: effect exactly once",
        without="a write that meets a document which was not there before is taken for stale",
        changes=[
            Change(
                GATE,
                old="modified_again, errors_again = _bulk_write(collection, again, deadline, session)",
                new="modified_again, errors_again = 0, {}",
            )
        ],
        noticed_by={EXACTLY_ONCE: ["test_a_duplicate_key_is_never_taken_for_stale"]},
    ),
    Control(
        "tombstone",
        serves="3: no resurrection",
        without="a delete removes the document",
        changes=[
            Change(
                GATE,
                old="        InsertOne(write.encoded)\n        if mostly_new",
                new='        DeleteOne({"_id": write.aggregate_id})\n        if "deleted_at" in write.document\n'
                "        else InsertOne(write.encoded)\n        if mostly_new",
            )
        ],
        noticed_by={
            NO_RESURRECTION: [
                "test_a_late_upsert_finds_the_tombstone_and_leaves_it",
                "test_a_tombstone_of_something_never_seen_keeps_its_upserts_out",
            ],
        },
    ),
    Control(
        "deadline of a batch",
        serves="3: no resurrection",
        without="a lane that lost its transaction long ago goes on writing",
        changes=[
            Change(
                "projector/deadline.py",
                old="        if self.has_passed():\n            raise",
                new="        if False:\n            raise",
            ),
            Change(
                "projector/deadline.py",
                old="return self.at - time.clock_gettime(_CLOCK)",
                new="return max(self.at - time.clock_gettime(_CLOCK), 1.0)",
            ),
        ],
        noticed_by={
            NO_RESURRECTION: [
                "test_a_lane_past_its_deadline_writes_nothing",
                "test_a_deadline_that_passes_between_two_writes_stops_the_second_and_keeps_the_messages",
                "test_a_batch_whose_deadline_passes_at_the_end_is_not_committed",
            ],
        },
    ),
    Control(
        "look at the deadline before the commit",
        serves="3: no resurrection",
        without="a batch is settled although its deadline has passed",
        changes=[
            Change(
                "projector/relay.py",
                old='            deadline.remaining()\n            phases.ended("settle")',
                new='            phases.ended("settle")',
            )
        ],
        noticed_by={NO_RESURRECTION: ["test_a_batch_whose_deadline_passes_at_the_end_is_not_committed"]},
    ),
    Control(
        "maxTimeMS of writes",
        serves="3: no resurrection",
        without="a write that waits on the server is done however late",
        changes=[
            Change(
                GATE,
                old="    with pymongo.timeout(deadline.remaining()):\n        try:",
                new="    with pymongo.timeout(None):\n        try:",
            )
        ],
        noticed_by={NO_RESURRECTION: ["test_every_write_is_bounded_on_the_server"]},
    ),
    Control(
        "majority write concern",
        serves="4: settled means durable",
        without="a write is acknowledged by the primary alone",
        changes=[Change(MONGO, old='WriteConcern(w="majority", j=True)', new="WriteConcern(w=1, j=True)")],
        noticed_by={DURABLE: ["test_every_write_asks_for_a_journaled_majority"]},
    ),
    Control(
        "journal",
        serves="4: settled means durable",
        without="a write is acknowledged before it is in the journal",
        changes=[Change(MONGO, old='WriteConcern(w="majority", j=True)', new='WriteConcern(w="majority", j=False)')],
        noticed_by={DURABLE: ["test_every_write_asks_for_a_journaled_majority"]},
    ),
    Control(
        "write concern errors",
        serves="4: settled means durable",
        without="what the primary wrote and no majority confirmed is settled",
        changes=[
            Change(
                GATE,
                old='if details["writeConcernErrors"] or any(',
                new="if any(",
            )
        ],
        noticed_by={DURABLE: ["test_a_write_that_no_majority_confirmed_keeps_its_message"]},
    ),
    Control(
        "look of the item after its store",
        serves="7: references converge",
        without="the item looks at its owner first and is stored then",
        changes=[
            Change(
                DELIVERY,
                old="        for collection in collections:\n            result = apply(",
                new="        if projection.owner_field:\n"
                "            users = self._database[USERS_READ.name]\n"
                "            owners = {write.aggregate_id: write.owner for write in writes if write.owner}\n"
                "            for items in collections:\n"
                "                correct_owners(users, items, owners, deadline, session)\n"
                "        for collection in collections:\n            result = apply(",
            ),
            Change(
                DELIVERY,
                old="refused = correct_owners(users, items, owners, deadline, session)",
                new="refused: dict[int, str] = {}",
            ),
        ],
        noticed_by={
            CONVERGE: [
                "test_an_item_stored_after_the_rename_looked_is_corrected_by_its_own_look",
                "test_a_rename_stored_between_an_items_store_and_its_look_reaches_it",
            ],
        },
    ),
    Control(
        "look of the user after its store",
        serves="7: references converge",
        without="a rename looks for the user's items first and is stored then",
        changes=[
            Change(
                DELIVERY,
                old="        for collection in collections:\n            result = apply(",
                new="        if projection.is_owner:\n"
                "            self._fan_out(writes, {m.aggregate_id: m.cursor for m in batch}, shadow, deadline, session)\n"
                "        for collection in collections:\n            result = apply(",
            ),
            Change(
                DELIVERY,
                old="left, refused = self._fan_out(stored, cursors, shadow, deadline, session)",
                new="left, refused = [], {}",
            ),
        ],
        noticed_by={
            CONVERGE: ["test_an_item_that_looked_before_the_rename_was_stored_is_found_by_the_rename"],
        },
    ),
    Control(
        "looks whatever the gate said",
        serves="7: references converge",
        without="nothing is looked at when the gate found the message stale",
        changes=[
            Change(
                DELIVERY,
                old="stored = [write for write in writes if write.aggregate_id not in failed]",
                new="stored = [write for write in writes if write.aggregate_id not in failed and result.applied]",
            )
        ],
        noticed_by={CONVERGE: ["test_a_redelivery_finishes_the_looks_that_a_crash_left"]},
    ),
    Control(
        "owner gate of a stored item",
        serves="7: references converge",
        without="an item event brings back the older owner that its command saw",
        changes=[Change(GATE, old="if write.owner_field and write.owner:", new="if False:")],
        noticed_by={
            CONVERGE: ["test_a_stale_owner_in_a_newer_item_event_does_not_replace_the_newer_stored_one"],
        },
    ),
    Control(
        "owner gate of a rename",
        serves="7: references converge",
        without="a late rename replaces the newer owner in items",
        changes=[
            Change(
                GATE,
                old='                "owner.version": {_older(is_repair=embedding.is_repair): embedding.owner["version"]},\n',
                new="",
            )
        ],
        noticed_by={CONVERGE: ["test_a_late_rename_takes_no_newer_owner_back"]},
    ),
    Control(
        "owner versions compared under the same id",
        serves="7: references converge",
        without="an item that moves to an owner of a lower version keeps the old one",
        changes=[Change(GATE, old='{"$eq": [f"${field}.id", owner["id"]]}, ', new="")],
        noticed_by={CONVERGE: ["test_versions_of_different_owners_are_not_compared"]},
    ),
    Control(
        "owner id of a correction",
        serves="7: references converge",
        without="a rename reaches items that have another owner meanwhile",
        changes=[Change(GATE, old='                "owner.id": embedding.owner["id"],\n', new="")],
        noticed_by={
            CONVERGE: ["test_an_item_that_moves_while_the_rename_is_at_work_keeps_its_new_owner"],
        },
    ),
    Control(
        "row of a rename in steps",
        serves="7: references converge",
        without="a rename is settled after its first step",
        changes=[
            Change(
                DELIVERY,
                old='            outcomes |= {fan_out.owner["id"]: Unfinished(fan_out.cursor) for fan_out in left}\n',
                new="",
            )
        ],
        noticed_by={
            CONVERGE: [
                "test_a_rename_in_steps_keeps_its_row_and_cursor_and_lets_its_neighbours_go",
                "test_a_waiter_is_told_only_after_the_last_step",
            ],
        },
    ),
    Control(
        "each document encoded before the bulk",
        serves="8: poison is isolated",
        without="one document that BSON cannot hold takes the whole batch along",
        changes=[
            Change(
                DELIVERY,
                old="except (UnreadableEventError, UnstorableDocumentError) as error:",
                new="except UnreadableEventError as error:",
            )
        ],
        noticed_by={ISOLATED: ["test_poison_gets_out_of_the_way_at_once_and_its_neighbours_settle"]},
    ),
    Control(
        "bulk in no order",
        serves="8: poison is isolated",
        without="behind a refused document the rest of the bulk is not written",
        changes=[
            Change(
                GATE,
                old="result = collection.bulk_write(operations, ordered=False, session=session)",
                new="result = collection.bulk_write(operations, ordered=True, session=session)",
            )
        ],
        noticed_by={ISOLATED: ["test_a_refused_document_does_not_stop_the_rest_of_the_bulk"]},
    ),
    Control(
        "repair before a message of its version",
        serves="2: effect exactly once",
        without="of two messages of one version in a batch any one is written",
        changes=[
            Change(
                DELIVERY,
                old="key=lambda message: (message.aggregate_version, message.is_repair)",
                new="key=lambda message: (message.aggregate_version, not message.is_repair)",
            )
        ],
        noticed_by={REPAIR: ["test_in_one_batch_with_a_message_of_its_version_the_repair_is_written"]},
    ),
)
