"""From the HTTP request through the outbox row to the projector's span; and nothing at all when tracing is off."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from api.settings import ApiSettings
from projector.relay import Relay
from projector.tracing import BatchSpans
from shared.settings import SettingsError
from shared.telemetry import Tracing
from tests.fixtures.clients import ApiClient, serving
from tests.fixtures.databases import ROOT
from tests.fixtures.relays import Outbox

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
ADA = {"name": "Ada", "email": "ada@example.org"}


class Spans:
    """A process's tracing, and what it recorded."""

    def __init__(self, service: str) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing(service, SimpleSpanProcessor(self._exporter))

    def take(self) -> list[ReadableSpan]:
        """Return the spans that ended since the last time."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans


@pytest.fixture
def spans() -> Iterator[Spans]:
    """The spans of the API."""
    spans = Spans("api")
    yield spans
    spans.tracing.close()


@pytest.fixture
def batch_spans() -> Iterator[Spans]:
    """The spans of the projector."""
    spans = Spans("projector")
    yield spans
    spans.tracing.close()


@pytest.fixture
def api(api_settings: ApiSettings, spans: Spans) -> Iterator[ApiClient]:
    """A client of an API that traces and does not wait."""
    with serving(api_settings.model_copy(update={"default_wait_seconds": 0}), spans.tracing) as client:
        yield client


@pytest.fixture
def relay(make_relay: Callable[..., Relay], batch_spans: Spans) -> Relay:
    """A relay that traces."""
    return make_relay(on_settled=BatchSpans(batch_spans.tracing).settled)


def span_id(span: ReadableSpan) -> str:
    """Return the span's id as it goes over the wire."""
    assert span.context
    return f"{span.context.span_id:016x}"


def trace_id(span: ReadableSpan) -> str:
    """Return the id of the span's trace as it goes over the wire."""
    assert span.context
    return f"{span.context.trace_id:032x}"


def test_a_write_is_followed_from_its_request_through_the_outbox_to_the_projector(
    api: ApiClient, relay: Relay, spans: Spans, batch_spans: Spans, postgres: psycopg.Connection
) -> None:
    with capture_logs() as lines:
        answer = api.post("/users", json=ADA, headers={"traceparent": TRACEPARENT, "X-Request-ID": "r1"})
    assert answer.status_code == 202

    (request,) = spans.take()
    assert (request.name, request.kind) == ("POST /users", SpanKind.SERVER)
    assert trace_id(request) == TRACE_ID
    assert request.parent
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    attributes = dict(request.attributes or {})
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.route"] == "/users"
    assert attributes["http.response.status_code"] == 202
    assert attributes["kata.request_id"] == "r1"
    assert request.resource.attributes["service.name"] == "kata-api"

    carried = postgres.execute("SELECT trace_context FROM outbox").fetchone()
    assert carried == ({"request_id": "r1", "traceparent": f"00-{TRACE_ID}-{span_id(request)}-01"},)
    assert [line["trace_id"] for line in lines if line["event"] == "request"] == [TRACE_ID]

    assert relay.run_once().settled == 1
    (batch,) = batch_spans.take()
    assert (batch.name, batch.kind, batch.parent) == ("process outbox", SpanKind.CONSUMER, None)
    assert dict(batch.attributes or {}).items() >= {
        "messaging.batch.message_count": 1, "messaging.operation.type": "process", "kata.settled": 1, "kata.dead": 0,
    }.items()  # fmt: skip
    (link,) = batch.links
    assert (f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") == (TRACE_ID, span_id(request))
    assert dict(link.attributes or {}) == {
        "messaging.message.id": "1", "kata.request_id": "r1", "kata.outcome": "settled",
    }  # fmt: skip
    assert batch.start_time
    assert batch.end_time
    assert batch.start_time < batch.end_time


def test_a_request_outside_of_any_trace_begins_one(api: ApiClient, spans: Spans, postgres: psycopg.Connection) -> None:
    api.post("/users", json=ADA)
    (request,) = spans.take()
    assert request.parent is None
    carried = postgres.execute("SELECT trace_context ->> 'traceparent' FROM outbox").fetchone()
    assert carried
    assert carried[0].startswith(f"00-{trace_id(request)}-{span_id(request)}-")


def test_a_span_is_named_by_its_route_and_fails_with_the_service_alone(
    api: ApiClient, spans: Spans, postgres: psycopg.Connection
) -> None:
    api.get("/users/7")
    (missing,) = spans.take()
    assert (missing.name, missing.status.status_code) == ("GET /users/{user_id}", StatusCode.UNSET)
    postgres.execute("ALTER TABLE users RENAME TO people")
    assert api.post("/users", json=ADA).status_code == 503
    (failed,) = spans.take()
    assert failed.status.status_code is StatusCode.ERROR


def test_a_batch_links_what_it_can_and_says_what_became_of_each(
    relay: Relay, batch_spans: Spans, outbox: Outbox, postgres: psycopg.Connection
) -> None:
    contexts: list[Any] = [
        None,
        {},
        [],
        "x",
        {"traceparent": "rubbish"},
        {"traceparent": TRACEPARENT, "request_id": "r"},
    ]
    for user_id, context in enumerate(contexts, start=1):
        outbox.user(user_id)
        postgres.execute("UPDATE outbox SET trace_context = %s WHERE id = %s", (json.dumps(context), user_id))
    poison = outbox.append("user", 99, 1, "created", {})
    postgres.execute("UPDATE outbox SET trace_context = %s WHERE id = 7", (json.dumps({"traceparent": TRACEPARENT}),))
    relay.run_once()
    (batch,) = batch_spans.take()
    assert dict(batch.attributes or {})["messaging.batch.message_count"] == len(contexts) + 1
    outcomes = {
        link.attributes["messaging.message.id"]: link.attributes["kata.outcome"]
        for link in batch.links
        if link.attributes
    }
    assert outcomes == {"6": "settled", str(poison): "failed"}
    assert batch.status.status_code is StatusCode.ERROR
    relay.run_once()
    (last,) = batch_spans.take()
    assert [dict(link.attributes or {})["kata.outcome"] for link in last.links] == ["dead"]


def test_an_empty_batch_has_no_span(relay: Relay, batch_spans: Spans) -> None:
    relay.run_once()
    assert batch_spans.take() == []


def test_a_full_batch_keeps_all_its_links(
    relay: Relay, batch_spans: Spans, outbox: Outbox, postgres: psycopg.Connection
) -> None:
    outbox.bulk(1000)
    postgres.execute("UPDATE outbox SET trace_context = %s", (json.dumps({"traceparent": TRACEPARENT}),))
    assert relay.run_once().claimed == 1000
    (batch,) = batch_spans.take()
    assert len(batch.links) == 1000


OFF = """
import sys
from api.app import create_app
from api.settings import ApiSettings
import api.main
from projector.process import Projector
from projector.settings import ProjectorSettings
from shared.telemetry import Tracing
import threading

assert Tracing.of(ApiSettings.load(), "api") is None
create_app(ApiSettings.load())
Projector(ProjectorSettings.load(), threading.Event()).close()
# FastAPI itself brings OpenTelemetry's interface along, which does nothing by itself.
ours = ("opentelemetry.sdk", "opentelemetry.exporter", "projector.tracing")
print([name for name in sys.modules if name.startswith(ours)])
"""


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_with_tracing_off_nothing_of_it_is_imported() -> None:
    done = run_python(OFF, OTEL_EXPORTER_OTLP_ENDPOINT="")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


class Collector(BaseHTTPRequestHandler):
    """An OTLP collector that keeps the paths of what it was sent."""

    def do_POST(self) -> None:
        """Take spans."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)  # type: ignore[attr-defined] - the test's own list
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[ThreadingHTTPServer]:
    """A collector, with the paths it was asked for in `paths`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.paths = []  # type: ignore[attr-defined] - the test's own list
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


ON = """
from api.settings import ApiSettings
from shared.telemetry import Tracing

tracing = Tracing.of(ApiSettings.load(), "api")
tracing.provider.get_tracer("test").start_span("s").end()
tracing.close()
print(tracing.provider.resource.attributes["service.name"])
"""


def test_the_endpoint_switches_it_on_and_what_is_left_is_sent_at_the_end(collector: ThreadingHTTPServer) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    done = run_python(ON, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="mine")
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr
    assert collector.paths == ["/v1/traces"]  # type: ignore[attr-defined] - the test's own list


def test_an_endpoint_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT: expected http://host:port"):
        ApiSettings.load(otel_exporter_otlp_endpoint="collector:4317")


def test_without_the_extra_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.settings.find_spec", lambda name: None if name == "opentelemetry.sdk" else object())
    with pytest.raises(SettingsError, match=r"tracing is not installed here: .*backend-kata\[tracing\]"):
        ApiSettings.load(otel_exporter_otlp_endpoint="http://127.0.0.1:4318")
