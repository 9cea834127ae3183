"""What people meet who report something or send a change: the forms of issues and the template of pull requests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_an_issue_form_has_what_its_format_asks_for(name: str) -> None:
    form = yaml.safe_load((FORMS / name).read_text())
    assert set(form) == {"name", "description", "labels", "body"}
    kinds = {"markdown": "value", "textarea": "label", "input": "label", "checkboxes": "label"}
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in fields}) == len(fields)
    assert any(part.get("validations", {}).get("required") for part in fields)
    for part in form["body"]:
        assert part["attributes"][kinds[part["type"]]]
        assert set(part) <= {"type", "id", "attributes", "validations"}


def test_the_templates_name_files_and_commands_that_there_are() -> None:
    for path in (*FORMS.iterdir(), FORMS.parent / "PULL_REQUEST_TEMPLATE.md", ROOT / "SECURITY.md"):
        text = path.read_text()
        for named in re.findall(r"(?:docs/[\w/-]+\.md|(?:SECURITY|CHANGELOG)\.md)", text):
            assert (ROOT / named).exists(), (path.name, named)
    assert "docs/explanation/guarantees.md" in (FORMS.parent / "PULL_REQUEST_TEMPLATE.md").read_text()
