"""The middleware of docs/how-to/hooks.md does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "hooks.md").read_text()


def test_the_example_of_the_page_changes_redacts_and_sees_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    [application] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "desk"}
    exec(application, names)
    kit = names["kit"]
    with kit.testing() as testing:
        run = kit.start("desk", "Where is order 7?", metadata={"plan": "free"}).run
        assert run.status == "completed"
        assert testing.requests[0].instructions == "You are the desk of a shop. Be brief."
        [result] = [message for message in run.messages or [] if message["role"] == "toolResult"]
    assert result["content"] == [{"type": "text", "text": "order 7 of [redacted]"}]
    assert result["details"] == {"source": "orders"}
    assert capsys.readouterr().out.startswith(f"{run.id} completed ")
