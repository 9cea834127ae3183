"""The alert rules and the board of `deploy/`, read by Prometheus itself."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.needs import program
from tests.unit.test_deploy import DEPLOY, board_expressions


def promtool(*words: str | Path) -> None:
    done = subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid_and_fire_as_they_should() -> None:
    promtool("check", "rules", DEPLOY / "prometheus" / "alerts.yaml")
    promtool("test", "rules", DEPLOY / "prometheus" / "alerts.test.yaml")


def test_prometheus_can_evaluate_every_expression_of_the_board(tmp_path: Path) -> None:
    rules = [
        {"record": f"board:{number}", "expr": re.sub(r"\$__rate_interval", "5m", expression)}
        for number, expression in enumerate(board_expressions())
    ]
    (tmp_path / "board.yaml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "board.yaml")
