"""A span per batch, linked to the requests whose commands wrote its messages.

As OpenTelemetry's messaging conventions ask of batches: one `process` span, a link per message to where the message was
created. https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/#batch-receiving
"""

import time
from collections.abc import Iterator
from typing import Any

import orjson
from opentelemetry.trace import Link, SpanKind, StatusCode

from projector.outbox import Settlement
from shared.outbox.message import OutboxMessage
from shared.telemetry import Tracing, context_of


class BatchSpans:
    """Told of each batch after its commit."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracer = tracing.provider.get_tracer("projector")

    def settled(self, settlement: Settlement, seconds: float) -> None:
        """Record a batch that took `seconds` and has just ended."""
        now = time.time_ns()
        outcomes = list(_outcomes(settlement))
        span = self._tracer.start_span(
            "process outbox",
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "kata_outbox",
                "messaging.destination.name": "outbox",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.batch.message_count": len(outcomes),
                "kata.settled": len(settlement.settled),
                "kata.failed": len(settlement.failed),
                "kata.dead": len(settlement.dead),
                "kata.unfinished": len(settlement.unfinished),
            },
            links=[link for message, outcome in outcomes if (link := _link(message, outcome))],
            start_time=now - int(seconds * 1e9),
        )
        if settlement.failed:
            span.set_attribute("error.type", "dead_letter" if settlement.dead else "failed")
            span.set_status(StatusCode.ERROR)
        span.end(now)


def _outcomes(settlement: Settlement) -> Iterator[tuple[OutboxMessage, str]]:
    yield from ((message, "settled") for message in settlement.settled)
    yield from ((message, "dead" if failure.is_dead else "failed") for message, failure in settlement.failed.items())
    yield from ((message, "unfinished") for message in settlement.unfinished)


def _link(message: OutboxMessage, outcome: str) -> Link | None:
    """Return the link to the request that made the message; imports and repairs have none."""
    carried: Any = orjson.loads(message.trace_context or b"null")
    if not isinstance(carried, dict):
        return None
    context = context_of(str(carried.get("traceparent")))
    if context is None:
        return None
    attributes = {
        "messaging.message.id": str(message.id),
        "kata.request_id": str(carried.get("request_id")),
        "kata.outcome": outcome,
    }
    return Link(context, attributes)
