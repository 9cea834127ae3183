"""What docs/how-to/fair-shares.md shows is executed here, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "fair-shares.md"
PARTS = {part.partition("\n")[0]: part for part in PAGE.read_text().split("\n## ")[1:]}


@pytest.mark.parametrize("title", [title for title, part in PARTS.items() if BLOCK.search(part)])
def test_the_examples_do_what_the_page_says(title: str) -> None:
    names: dict[str, Any] = {}
    for block in BLOCK.findall(PARTS[title]):
        exec(block, names)
