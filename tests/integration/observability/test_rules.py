"""The alert rules, judged by promtool; and the runbook, which has a section for each of them."""

import re
from typing import Final

from tests.fixtures.prometheus import OBSERVABILITY, promtool
from tests.fixtures.runbook import RUNBOOK

ALERTS: Final = (OBSERVABILITY / "alerts.yml").read_text(encoding="utf-8")
CASES: Final = (OBSERVABILITY / "alerts_test.yml").read_text(encoding="utf-8")
NAMES: Final = re.findall(r"^ +- alert: (\w+)$", ALERTS, re.MULTILINE)


def test_prometheus_takes_the_configuration_with_its_rules() -> None:
    done = promtool("check", "config", str(OBSERVABILITY / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_no_other_does() -> None:
    done = promtool("test", "rules", str(OBSERVABILITY / "alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert len(NAMES) == len(set(NAMES)) == ALERTS.count("alert:")
    assert set(re.findall(r'alertname="(\w+)"', CASES)) == set(NAMES)


def test_every_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    for name, alert in zip(NAMES, re.split(r"^ +- alert: ", ALERTS, flags=re.MULTILINE)[1:], strict=True):
        assert re.search(r"severity: (critical|warning)\b", alert), name
        assert f"runbook_url: runbook.md#{name.lower()}\n" in alert
        assert re.search(r"^ +summary: ", alert, re.MULTILINE), name
        assert re.search(r"^ +description: ", alert, re.MULTILINE), name


def test_the_runbook_has_a_section_for_every_alert_and_for_nothing_that_is_none() -> None:
    alerts = RUNBOOK.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (.*)$", alerts, re.MULTILINE) == NAMES, "in the order of alerts.yml"
