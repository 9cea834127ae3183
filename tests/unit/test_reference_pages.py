"""The reference says what the code does: its pages hold what is made from the code, and the examples are events."""

from __future__ import annotations

import importlib
import json
import re
from typing import get_args

import pytest

import agentkit
from agentkit.core.events import RUN_ERROR_CODES, Event, read_event
from agentkit.core.struct import encode
from tests.reference_pages import PARTS, REFERENCE, ROOT, marked

TEXTS = {".conf", ".md", ".py", ".toml", ".ts", ".tsx", ".yaml", ".yml"}
SHOWN_ELSEWHERE = {
    "Headers",  # a type of an argument
    "StandIn",
    *("Middleware", "ModelCall", "RunInfo", "StepInfo", "ToolCall"),  # importable from agentkit, and shown so
}
STALE = "the page is not what the code makes: python -m tests.reference_pages"


@pytest.mark.parametrize("page", PARTS)
def test_the_page_holds_what_is_made_from_the_code(page: str) -> None:
    assert (REFERENCE / page).read_text() == marked(page), STALE


def test_every_event_has_an_example_that_is_read_and_written_as_it_stands() -> None:
    text = (REFERENCE / "events.md").read_text()
    shown = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]
    for event in shown:
        assert json.loads(encode(read_event(json.dumps(event)))) == event
    tags = [member.__struct_config__.tag for member in get_args(Event)]
    assert [event["type"] for event in shown] == tags
    assert [line[4:] for line in text.splitlines() if line.startswith("### ") and line[4:] in tags] == tags


def test_every_public_name_of_python_is_in_the_reference_and_each_of_those_is_there() -> None:
    named = re.findall(r"^::: (\S+)$", (REFERENCE / "python.md").read_text(), re.MULTILINE)
    assert len(named) == len(set(named))
    for name in named:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    public = {f"agentkit.{name}" for name in agentkit.__all__}
    for module in ("asgi", "client", "django", "hooks", "testing"):
        names = importlib.import_module(f"agentkit.{module}").__all__
        public |= {f"agentkit.{module}.{name}" for name in names if name not in SHOWN_ELSEWHERE}
    assert public <= set(named)


def test_every_page_that_is_named_in_the_repository_is_there() -> None:
    """In docstrings, comments and error texts, which no build of the site reads."""
    folders = (
        ".github",
        "agentkit",
        "bench",
        "chaos",
        "deploy",
        "docs",
        "examples/chat/src",
        "clients/react/src",
        "release",
        "tests",
    )
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.*") if path.suffix in TEXTS]
    named: set[str] = set()
    for path in [*paths, *ROOT.glob("*.md"), ROOT / "Procfile", ROOT / "Makefile"]:
        named |= set(re.findall(r"(?<![\w/-])docs/[\w/-]+\.md\b", path.read_text()))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_test_that_the_support_matrix_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", (REFERENCE / "support.md").read_text()))
    assert len(named) > 5
    assert named <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_way_in_which_a_run_fails_is_explained_and_none_else() -> None:
    section = (REFERENCE / "errors.md").read_text().partition("## Of a run\n")[2]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `") and "`code`" not in line]
    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == RUN_ERROR_CODES
