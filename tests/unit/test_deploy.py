"""What `deploy/` has for Prometheus and Grafana speaks of metrics, labels and alerts that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentkit.core.metrics import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
BOARD = json.loads((DEPLOY / "grafana" / "agentkit.json").read_text())
LABELS = {
    name: {*metric.labels, "job", *({"le"} if metric.type == "histogram" else ())}
    for metric in METRICS
    for name in (
        [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
        if metric.type == "histogram"
        else [metric.shown_name]
    )
}
"""The labels of every series, a target's `job` among them."""


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def board_expressions() -> Iterator[str]:
    for panel in BOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def expressions() -> list[str]:
    return [*board_expressions(), *(rule["expr"] for rule in alerts())]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_series_and_labels_that_there_are(expression: str) -> None:
    named = re.findall(r"\b(agentkit_\w+)(?:\{([^}]*)\})?", expression)
    assert named or "up{" in expression
    for name, matchers in named:
        assert name in LABELS
        assert {matcher.split("=")[0].strip("~! ") for matcher in matchers.split(",") if matcher} <= LABELS[name]
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        known = [LABELS[name] for name, _ in named]
        assert all(set(grouped.replace(" ", "").split(",")) <= labels for labels in known)


def test_the_board_shows_every_metric() -> None:
    shown = " ".join(board_expressions())
    assert [metric.name for metric in METRICS if not re.search(rf"\b{metric.shown_name}(_bucket)?\b", shown)] == []


def test_the_panels_of_the_board_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for panel in panels
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) == 23


def test_every_alert_is_explained_in_the_docs_and_none_else() -> None:
    page = (DEPLOY.parent / "docs" / "reference" / "metrics.md").read_text()
    assert re.findall(r"^\| `(Agentkit\w+)`", page, re.MULTILINE) == [rule["alert"] for rule in alerts()]


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = yaml.safe_load((DEPLOY / "prometheus" / "alerts.test.yaml").read_text())["tests"]
    checks = [
        (check["alertname"], bool(check.get("exp_alerts"))) for case in cases for check in case["alert_rule_test"]
    ]
    assert set(checks) == {(rule["alert"], fires) for rule in alerts() for fires in (True, False)}
