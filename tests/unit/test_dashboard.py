"""The dashboard as a file: Grafana shows it as it is, without anybody arranging or connecting anything."""

import json
import re
from itertools import combinations
from typing import Any, Final

from devstack.layout import CHECKOUT

GRAFANA: Final = CHECKOUT / "observability/grafana"
DASHBOARD: Final[dict[str, Any]] = json.loads((GRAFANA / "dashboards/kata.json").read_text(encoding="utf-8"))
PANELS: Final[list[dict[str, Any]]] = DASHBOARD["panels"]
GRAPHS: Final = [panel for panel in PANELS if panel["type"] != "row"]
COLUMNS: Final = 24


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_no_two_panels_have_one_id_or_lie_on_each_other() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    assert not [pair for pair in combinations(places, 2) if overlap(*pair)]


def test_every_graph_says_what_it_shows_and_names_its_lines() -> None:
    for panel in GRAPHS:
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["type"] == "stat" or all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_it_asks_the_data_source_that_is_provisioned() -> None:
    provisioned = (GRAFANA / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    assert {panel["datasource"]["uid"] for panel in GRAPHS} == set(
        re.findall(r"^ +uid: (\w+)$", provisioned, re.MULTILINE)
    )


def test_it_is_where_compose_and_the_provisioning_look_for_it() -> None:
    compose = (CHECKOUT / "docker-compose.yml").read_text(encoding="utf-8")
    provisioning = (GRAFANA / "provisioning/dashboards/kata.yml").read_text(encoding="utf-8")
    assert "./observability/grafana/dashboards:/etc/grafana/dashboards:ro" in compose
    assert "path: /etc/grafana/dashboards" in provisioning
    assert "DEFAULT_HOME_DASHBOARD_PATH: /etc/grafana/dashboards/kata.json" in compose
