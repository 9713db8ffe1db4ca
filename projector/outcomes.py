"""What became of each aggregate of a batch, and of each message with it.

Of the messages of one aggregate in a batch only the newest is written; the older ones share its fate, because an
event carries the full state. Of two of one version it is the repair, which the gate lets through in either case.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from projector.failures import Failure, Patience
from projector.outbox import Settlement
from shared.outbox.message import OutboxMessage


@dataclass(frozen=True, slots=True)
class Settled:
    """The read model shows this version or a newer one."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The message itself failed."""

    error: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The document is stored; the items that embed it are corrected up to `cursor`."""

    cursor: int


Outcome = Settled | Failed | Unfinished

Aggregate = tuple[str, int]


def aggregate_of(message: OutboxMessage) -> Aggregate:
    """Return the key by which messages belong together."""
    return message.aggregate_type, message.aggregate_id


def coalesce(messages: Iterable[OutboxMessage]) -> list[OutboxMessage]:
    """Return the newest message of each aggregate."""
    by_version = sorted(messages, key=lambda message: (message.aggregate_version, message.is_repair))
    return list({aggregate_of(message): message for message in by_version}.values())


def settlement_of(
    messages: Iterable[OutboxMessage], outcomes: Mapping[Aggregate, Outcome], patience: Patience
) -> Settlement:
    """Return what becomes of each message: older ones share the fate of the newest of their aggregate."""
    settled: list[OutboxMessage] = []
    failed: dict[OutboxMessage, Failure] = {}
    unfinished: dict[OutboxMessage, int] = {}
    for message in messages:
        outcome = outcomes[aggregate_of(message)]
        match outcome:
            case Settled():
                settled.append(message)
            case Failed(error):
                failed[message] = patience.failure(message, error)
            case Unfinished(cursor):
                unfinished[message] = cursor
            case _:
                assert_never(outcome)
    return Settlement(settled, failed, unfinished)
