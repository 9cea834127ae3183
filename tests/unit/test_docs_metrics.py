"""docs/reference/metrics.md says of each metric what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from agentkit.core.events import ItemKind
from agentkit.core.metrics import DECISION_OUTCOMES, METRICS
from agentkit.runtime.reports import RecoveryReason, StepOutcome

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(agentkit_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


def test_the_page_lists_every_metric_with_its_type_and_labels_in_the_order_of_the_code() -> None:
    rows = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in ROW.findall((ROOT / "docs" / "reference" / "metrics.md").read_text())
    ]
    assert rows == [(metric.shown_name, metric.type, metric.labels) for metric in METRICS]


def test_the_page_names_every_outcome_of_a_step_and_every_value_of_the_other_labels() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    values = [*get_args(StepOutcome), *get_args(RecoveryReason), *get_args(ItemKind), *DECISION_OUTCOMES]
    assert [value for value in values if f"`{value}`" not in page] == []
