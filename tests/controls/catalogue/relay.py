"""Guards of the relay: claiming, settling and failing."""

from typing import Final

from tests.controls.control import Change, Control

RELAY: Final = "projector/relay.py"
OUTBOX: Final = "projector/outbox.py"
DELIVERY: Final = "projector/delivery.py"

EXACTLY_ONCE: Final = "tests/integration/projector/test_invariant_02_effect_exactly_once.py"
CRASH_SAFE: Final = "tests/integration/projector/test_invariant_05_crash_safe.py"
NOTHING_SKIPPED: Final = "tests/integration/projector/test_invariant_06_nothing_is_skipped.py"
SUPERSEDED: Final = "tests/integration/projector/test_invariant_09_superseded_failures_disappear.py"
CLAIM_AND_SETTLE: Final = "tests/integration/projector/test_claim_and_settle.py"

SUPERSEDE_IN_A_TRANSACTION_OF_ITS_OWN: Final = """\
        other = psycopg.connect(connection.info.dsn, password=connection.info.password, autocommit=True)
        other_cursor = other.cursor()
        other_cursor.execute(
            SUPERSEDE,
"""

CONTROLS: Final = (
    Control(
        "settle in the same transaction",
        serves="5: crash-safe",
        without="the claim is committed before MongoDB has the batch",
        changes=[
            Change(
                RELAY,
                old='            phases.ended("claim")',
                new='            connection.execute("COMMIT")\n            connection.execute("BEGIN")\n'
                '            phases.ended("claim")',
            )
        ],
        noticed_by={
            EXACTLY_ONCE: ["test_messages_that_were_written_but_not_settled_come_again"],
            CRASH_SAFE: [
                "test_a_relay_whose_transaction_breaks_off_settles_nothing_and_goes_on_with_a_new_connection"
            ],
        },
    ),
    Control(
        "messages locked by their claim",
        serves="5: crash-safe",
        without="a lane waits for the messages that another one has claimed",
        changes=[
            Change(
                OUTBOX,
                old="SELECT id FROM outbox WHERE id > %(after)s ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED",
                new="SELECT id FROM outbox WHERE id > %(after)s ORDER BY id LIMIT %(limit)s FOR UPDATE",
            )
        ],
        noticed_by={CLAIM_AND_SETTLE: ["test_two_relays_work_on_disjoint_messages_at_the_same_time"]},
    ),
    Control(
        "sweep for late commits",
        serves="6: nothing is skipped",
        without="what is committed late, with a lower id, is never claimed",
        changes=[
            Change(
                "projector/position.py",
                old="if self._clock() >= self._next_sweep:",
                new="if self._last == FROM_THE_START:",
            )
        ],
        noticed_by={
            NOTHING_SKIPPED: [
                "test_a_late_commit_with_a_lower_id_is_found_by_the_next_sweep",
                "test_a_late_commit_of_many_messages_takes_one_sweep_and_not_one_for_each_batch",
            ],
        },
    ),
    Control(
        "position taken back by a failed batch",
        serves="6: nothing is skipped",
        without="what a failed batch gave back waits for a sweep",
        changes=[
            Change(
                RELAY,
                old="            self._take_back(self._claimed)\n            raise",
                new="            raise",
            )
        ],
        noticed_by={CRASH_SAFE: ["test_what_a_failed_batch_gives_back_is_claimed_at_once_by_another_lane"]},
    ),
    Control(
        "superseding of older failures",
        serves="9: superseded failures disappear",
        without="a dead letter stays after a newer version was settled",
        changes=[
            Change(
                OUTBOX,
                old="AND (failure.aggregate_version < settled.below OR failure.id = settled.message)",
                new="AND failure.id = settled.message",
            )
        ],
        noticed_by={
            SUPERSEDED: [
                "test_settling_a_version_removes_the_lower_ones_of_the_same_aggregate_only",
                "test_failures_are_superseded_in_whatever_state_they_are",
            ],
        },
    ),
    Control(
        "superseding in the settling transaction",
        serves="9: superseded failures disappear",
        without="older failures are removed although the settling is rolled back",
        changes=[
            Change(OUTBOX, old="        cursor.execute(\n            SUPERSEDE,\n", new=SUPERSEDE_IN_A_TRANSACTION_OF_ITS_OWN),
            Change(
                OUTBOX,
                old="superseded = len({row[0] for row in cursor} -",
                new="superseded = len({row[0] for row in other_cursor} -",
            ),
        ],
        noticed_by={SUPERSEDED: ["test_the_removal_commits_with_the_settling_or_not_at_all"]},
    ),
    Control(
        "look at what is stored when a message fails",
        serves="9: superseded failures disappear",
        without="a message that fails is a failure although the read model shows a newer version",
        changes=[
            Change(
                DELIVERY,
                old="            superseded = _superseded(collection, batch, unwritten, deadline, session)\n",
                new="            superseded: set[int] = set()\n",
            )
        ],
        noticed_by={SUPERSEDED: ["test_a_message_that_fails_while_the_read_model_is_as_new_is_settled"]},
    ),
)
