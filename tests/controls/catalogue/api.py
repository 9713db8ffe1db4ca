"""Guards of commands, of waiting, and of reads with a token."""

from typing import Final

from tests.controls.control import Change, Control

UNIT_OF_WORK: Final = "api/unit_of_work.py"
TRANSACTIONS: Final = "tests/integration/api/test_transactions.py"
IDEMPOTENCY: Final = "tests/integration/api/test_idempotency.py"
PRECONDITIONS: Final = "tests/integration/api/test_preconditions.py"
WAITING: Final = "tests/integration/api/test_waiting.py"
SECONDARIES: Final = "tests/integration/api/test_tokens_on_secondaries.py"

CONTROLS: Final = (
    Control(
        "message in the command's transaction",
        serves="1: atomic",
        without="the rows are committed before the message is added",
        changes=[
            Change(
                UNIT_OF_WORK,
                old="        message_id, history = await append(\n",
                new="        await self._session.commit()\n        message_id, history = await append(\n",
            )
        ],
        noticed_by={TRANSACTIONS: ["test_atomic_a_failed_command_leaves_nothing"]},
    ),
    Control(
        "idempotency result in the command's transaction",
        serves="a POST is done once",
        without="the result is stored after the commit",
        changes=[
            Change(
                UNIT_OF_WORK,
                old="        if self._request_key is not None:\n            await idempotency.store",
                new="        if self._request_key is not None:\n            await self._session.commit()\n"
                "            await idempotency.store",
            )
        ],
        noticed_by={IDEMPOTENCY: ["test_a_command_that_is_rolled_back_leaves_no_result"]},
    ),
    Control(
        "lock of the idempotency key",
        serves="a POST is done once",
        without="a repetition begins while the first request is at work",
        changes=[
            Change(
                "api/idempotency/repository.py",
                old="locked = await session.scalar(select(func.pg_try_advisory_xact_lock(*request.lock)))",
                new="locked = True",
            )
        ],
        noticed_by={IDEMPOTENCY: ["test_one_still_in_flight_is_not_waited_for"]},
    ),
    Control(
        "row lock under If-Match",
        serves="no update is lost",
        without="of two changes that expect the same version both are done",
        changes=[
            Change("api/items/repository.py", old=".where(Item.id == item_id).with_for_update()", new=".where(Item.id == item_id)"),
        ],
        noticed_by={PRECONDITIONS: ["test_of_two_racing_puts_with_the_same_tag_one_is_refused"]},
    ),
    Control(
        "causal read",
        serves="you read your own writes",
        without="a read with a token is answered by whatever a secondary has",
        changes=[
            Change(
                "api/dependencies.py",
                old="        if found.time:\n            found.time.advance(session)\n",
                new="",
            )
        ],
        noticed_by={SECONDARIES: ["test_a_token_read_from_a_lagging_secondary_waits_and_one_without_is_stale"]},
    ),
)
