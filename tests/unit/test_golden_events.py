"""The golden logs are what runs look like now, and keep the protocol's rules by themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.event_rules import check_log
from tests.golden.make_events import CASES, FOLDER, made


def stored(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return body


def test_every_case_has_its_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_golden_log_keeps_the_rules(name: str) -> None:
    body = stored(name)
    check_log(body["events"], body["messages"], body["status"])


@pytest.mark.parametrize("name", CASES)
def test_a_run_still_has_its_golden_log(name: str) -> None:
    """A difference is a change of what clients see; `python -m tests.golden.make_events` makes the files again."""
    assert made(name) == stored(name)
