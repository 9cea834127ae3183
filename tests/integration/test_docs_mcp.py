"""docs/how-to/mcp.md: its example is executed as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_example_of_two_servers_does_what_its_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "mcp.md").read_text()
    application, orders, letters, answer = _BLOCK.findall(text)
    (tmp_path / "orders.py").write_text(orders)
    (tmp_path / "letters.py").write_text(letters)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    try:
        exec(application, names)
        exec(answer, names)
        results = [m for m in names["kit"].get(names["run"].id).messages if m["role"] == "toolResult"]
        assert [m["content"][0]["text"] for m in results][1:] == ["refunded A-17", "sent: We have refunded A-17."]
    finally:
        names["orders"].close()
        names["letters"].close()
