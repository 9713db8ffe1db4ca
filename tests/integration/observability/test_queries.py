"""Dashboard and alerts ask for what is there: a Prometheus that scraped real processes answers each of the queries."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from devstack.layout import CHECKOUT
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.prometheus import OBSERVABILITY, Prometheus, promtool, scraping
from tests.fixtures.relays import Outbox
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ProjectorProcess, start_projector

__all__ = ["start_projector"]  # a fixture

DASHBOARD: Final = json.loads((OBSERVABILITY / "grafana/dashboards/kata.json").read_text(encoding="utf-8"))
README: Final = (CHECKOUT / "README.md").read_text(encoding="utf-8")
RULES: Final = (OBSERVABILITY / "alerts.yml").read_text(encoding="utf-8")

# A series as a query names it, with what it asks of the labels.
SELECTOR: Final = re.compile(r"\b(?:kata_\w+|process_\w+|up\b)(?:\{[^}]*\})?")

Targets = dict[str, str]


@dataclass(frozen=True)
class Query:
    """A query of the dashboard: its panel, its text with Grafana's variables filled in, its legend."""

    panel: str
    expression: str
    legend: str


def dashboard_queries() -> Iterator[Query]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "5m")
            yield Query(panel["title"], expression, target["legendFormat"])


def provoke_everything(api: ApiProcess, outbox: Outbox) -> None:
    """Have a write and a read wait in vain, a message fail, and what only neighbours of the relay do, recorded."""
    body = {"name": "Ada", "email": "ada@example.org"}
    written = api.client.post("/users", json=body, headers={"Prefer": "wait=1"})
    assert written.status_code == 202
    token = {"Consistency-Token": written.headers["Consistency-Token"], "Prefer": "wait=1"}
    assert api.client.get("/users", headers=token).status_code == 503
    outbox.append("item", 4711, 1, "exploded", {})
    outbox.connection.execute(
        "INSERT INTO replays (aggregate_type, shadow, shadow_uuid, shape, state, cursor, copied, expected, ended_at)"
        " VALUES ('item', 'items_read_1', gen_random_uuid(), 1, 'failed', 0, 1, 2, clock_timestamp())"
    )
    outbox.connection.execute(
        "INSERT INTO verifications (aggregate_type, kind, compared, missing, stale, orphaned, different)"
        " VALUES ('item', 'sample', 100, 0, 2, 0, 0)"
    )


@pytest.fixture
def processes(
    start_api: Callable[[], ApiProcess], start_projector: Callable[[], ProjectorProcess], outbox: Outbox
) -> tuple[ApiProcess, ProjectorProcess]:
    """An API and a projector that have seen everything once."""
    api = start_api()
    provoke_everything(api, outbox)
    projector = start_projector()
    projector.wait_ready()
    patient = {"Prefer": "wait=30"}
    assert api.client.post("/users", json={"name": "E", "email": "e@example.org"}, headers=patient).status_code == 201
    wait_until(lambda: outbox.ids() == [], "all messages are settled", 60)
    return api, projector


def target_of(client: Any) -> str:
    return f"{client.base_url.host}:{client.base_url.port}"


@pytest.mark.slow
def test_every_query_of_dashboard_and_alerts_finds_what_it_asks_for(
    processes: tuple[ApiProcess, ProjectorProcess], tmp_path: Path
) -> None:
    api, projector = processes
    outputs = {"API": told_by(api.client), "projector": told_by(projector.http)}
    assert metrics_table(outputs) in README, f"put this into README.md:\n\n{metrics_table(outputs)}"
    for text in outputs.values():
        checked = promtool("check", "metrics", given=text)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    targets = {"api": [target_of(api.client)], "projector": [target_of(projector.http)]}
    with scraping(tmp_path, targets) as prometheus:
        wait_until(lambda: len(prometheus.query("up == 1")) == 2, "both are scraped", 60)
        for query in dashboard_queries():
            wait_until(lambda query=query: prometheus.query(query.expression), f"{query.panel}: {query.expression}", 60)
            for label in re.findall(r"\{\{(\w+)\}\}", query.legend):
                assert all(label in found for found in prometheus.query(query.expression)), query
        wait_until(lambda: {"ReplayFailed", "Drift"} <= alerts_raised(prometheus), "what is wrong raises alerts", 60)
        alerts = alert_expressions(prometheus)
        assert len(alerts) == RULES.count("alert:")
        for expression in alerts:
            prometheus.query(expression)
        for expression in [*alerts, *(query.expression for query in dashboard_queries())]:
            for selector in SELECTOR.findall(expression):
                wait_until(lambda selector=selector: prometheus.query(selector), f"something is called {selector}", 60)
            for label in grouping_labels(expression):
                assert label in {"le", *prometheus.ask("labels")}, expression


def told_by(client: httpx.Client) -> str:
    """Return what /metrics answers once its looks went well: a look gives up soon, and this machine may be busy."""
    texts: list[str] = []

    def is_complete() -> bool:
        texts.append(client.get("/metrics").text)
        return not re.search(r"^kata_store_up.* 0.0$", texts[-1], re.MULTILINE)

    wait_until(is_complete, "every store answered in time")
    return texts[-1]


def metrics_table(outputs: dict[str, str]) -> str:
    """Return README's table of metrics, made from what the processes tell."""
    rows: dict[str, tuple[Metric, list[str]]] = {}
    for reader, text in outputs.items():
        for family in text_string_to_metric_families(text):
            if family.name.startswith("kata_"):
                rows.setdefault(family.name, (family, []))[1].append(reader)
    lines = ["| metric | type | labels | told by | meaning |", "|---|---|---|---|---|"]
    for family, readers in rows.values():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({f"`{label}`" for sample in family.samples for label in sample.labels if label != "le"})
        told_by = " and ".join(readers)
        lines.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {told_by} | {family.documentation} |")
    return "\n".join(lines)


def alert_expressions(prometheus: Prometheus) -> list[str]:
    groups = prometheus.ask("rules", type="alert")["groups"]
    return [rule["query"] for group in groups for rule in group["rules"]]


def alerts_raised(prometheus: Prometheus) -> set[str]:
    return {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]}


def grouping_labels(expression: str) -> list[str]:
    grouped = re.findall(r"\b(?:by|on|ignoring|group_left) ?\(([^)]*)\)", expression)
    return [label.strip() for labels in grouped for label in labels.split(",") if label.strip()]
