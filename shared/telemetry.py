"""Tracing by OpenTelemetry: an optional extra, off unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

Off, there is no Tracing: nothing of the SDK is imported and nobody looks at a message's trace context. On, the way of a
write is: the client's traceparent, the request's span, the outbox row, which carries that span's own traceparent, and
the projector's span of the batch, which links to it. See https://www.w3.org/TR/trace-context/#traceparent-header.
"""

import threading
from typing import TYPE_CHECKING, Final, Self

from shared.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import SpanContext

# So many messages a batch may have at most, and each may have a link of its own.
MAX_LINKS: Final = 5000
# What a collector that is away has not taken after so long is given up, so that the process can end.
FLUSH_SECONDS: Final = 5.0


class Tracing:
    """What a process that traces holds: its tracer provider. Nothing is registered globally."""

    def __init__(self, service: str, processor: "SpanProcessor") -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider

        # The environment (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) knows better than we do.
        resource = Resource.create({"service.name": f"kata-{service}"}).merge(OTELResourceDetector().detect())
        self.provider = TracerProvider(
            resource=resource, span_limits=SpanLimits(max_links=MAX_LINKS), shutdown_on_exit=False
        )
        self.provider.add_span_processor(processor)

    @classmethod
    def of(cls, settings: Settings, service: str) -> Self | None:
        """Return the tracing that the settings ask for, None when they ask for none."""
        if not settings.otel_exporter_otlp_endpoint:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
        return cls(service, BatchSpanProcessor(OTLPSpanExporter(endpoint)))

    def close(self) -> None:
        """Send what is left, as far as the collector takes it in time."""
        flush = threading.Thread(target=self.provider.shutdown, name="flush-spans", daemon=True)
        flush.start()
        flush.join(FLUSH_SECONDS)


def begin_request(request_id: str) -> str:
    """Note the id on the request's span, which is the current one; return the span's traceparent, or nothing."""
    from opentelemetry.trace import get_current_span

    span = get_current_span()
    span.set_attribute("kata.request_id", request_id)
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def context_of(traceparent: str) -> "SpanContext | None":
    """Return the span that `traceparent` names, None when it is malformed."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = TraceContextTextMapPropagator().extract({"traceparent": traceparent})
    context = get_current_span(found).get_span_context()
    return context if context.is_valid else None
