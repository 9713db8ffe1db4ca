"""What a lane claims next: the messages after its position, and now and then those that failed and are due again."""

import time
from collections.abc import Iterable
from typing import Final

from projector import failures, outbox
from projector.batch import Batch
from projector.position import ClaimPosition
from projector.prepared import Prepared
from shared.outbox.message import OutboxMessage
from shared.outbox.wake import FROM_THE_START

# A busy lane looks this often for what failed and is due again; an idle one at every poll.
DUE_SECONDS: Final = 1.0


class Claims:
    """One lane's. Lanes of a process share the position, which is a hint."""

    def __init__(self, position: ClaimPosition, *, limit: int, awaited_only: bool) -> None:
        """`limit` is how many messages are claimed at once, `awaited_only`: none but those that a client waits for."""
        self._position = position
        self._limit = limit
        self._awaited_only = awaited_only
        self._next_look = time.monotonic() + DUE_SECONDS

    def next(self, batch: Batch) -> list[OutboxMessage]:
        """Take messages out of the outbox, in id order, or out of the failures."""
        if self._awaited_only:
            return self._after(batch, outbox.CLAIM_AWAITED)
        if time.monotonic() >= self._next_look:
            due = self._due(batch)
            if due:
                return due
        return self._after(batch, outbox.CLAIM) or self._due(batch)

    def take_back(self, messages: Iterable[OutboxMessage]) -> None:
        """Let the next claim find these: they were kept, or given back."""
        lowest = min((message.id for message in messages), default=None)
        if lowest is not None:
            self._position.take_back(lowest)

    def _due(self, batch: Batch) -> list[OutboxMessage]:
        self._next_look = time.monotonic() + DUE_SECONDS
        return batch.claim(failures.CLAIM_DUE, limit=self._limit)

    def _after(self, batch: Batch, claim: Prepared) -> list[OutboxMessage]:
        after = self._position.start()
        begun = time.monotonic()
        messages = batch.claim(claim, after=after, limit=self._limit)
        last = messages[-1].id if messages else after
        self._position.claimed(
            last, seconds=time.monotonic() - begun, swept=after == FROM_THE_START, full=len(messages) >= self._limit
        )
        return messages


def the_one(batch: Batch, message_id: int) -> list[OutboxMessage]:
    """Take this message, unless it is gone or another lane has it. Its attempts are those before the present one."""
    found = batch.claim(outbox.CLAIM_ONE, id=message_id) or batch.claim(failures.CLAIM_ONE_FAILED, id=message_id)
    return [message._replace(attempts=message.attempts - 1) for message in found]
