"""What docs/how-to/approvals.md shows of conditions, remembered answers and votes is executed here, as it is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "approvals.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHERS = 6
"""The blocks before belong to the example over HTTP (tests/acceptance/test_docs.py)."""


def test_who_decides_and_when_is_as_the_page_says() -> None:
    blocks = BLOCK.findall(PAGE.read_text())[OTHERS:]
    assert len(blocks) == 3
    names: dict[str, Any] = {"__name__": "shop"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
