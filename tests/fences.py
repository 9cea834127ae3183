"""The fenced code blocks of README and documentation, and the rule that each has a check.

A block's language says which. Python that no test executes has a comment before it that says why, and is checked by its
names: `<!-- Not executed: … -->`. `EXECUTED` names the test that executes the other Python of a page.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["EXECUTED", "PAGES", "ROOT", "Block", "blocks"]

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WHY = re.compile(r"<!-- Not executed: (.+) -->")

EXECUTED = {
    "README.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/ag-ui.md": "tests/acceptance/test_wires.py",
    "docs/how-to/ai-sdk.md": "tests/acceptance/test_wires.py",
    "docs/how-to/approvals.md": "tests/unit/test_docs_decisions.py",
    "docs/how-to/authenticate.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/celery.md": "tests/unit/test_around_recipes.py",
    "docs/how-to/choose-a-pool.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/fair-shares.md": "tests/unit/test_docs_fair_shares.py",
    "docs/how-to/fastapi.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/flask.md": "tests/acceptance/test_docs_flask.py",
    "docs/how-to/from-celery.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/from-langgraph.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/hooks.md": "tests/unit/test_docs_hooks.py",
    "docs/how-to/logs.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/mcp.md": "tests/integration/test_docs_mcp.py",
    "docs/how-to/notifications.md": "tests/unit/test_docs_notifications.py",
    "docs/how-to/operate.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/stream-to-browsers.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/test-an-agent.md": "tests/integration/test_docs_testing.py",
    "docs/how-to/tools.md": "tests/unit/test_docs_tools.py",
    "docs/how-to/tracing.md": "tests/integration/test_docs_blocks.py",
    "docs/how-to/write-a-provider.md": "tests/integration/test_docs_providers.py",
    "docs/index.md": "tests/integration/test_docs_blocks.py",
    "docs/reference/http.md": "tests/integration/test_docs_blocks.py",
    "docs/reference/providers.md": "tests/integration/test_docs_providers.py",
    "docs/tutorial/first-refund.md": "tests/acceptance/test_first_refund.py",
    "docs/tutorial/ten-minutes.md": "tests/acceptance/test_docs.py",
}
"""Which test executes the Python of which page, all of it but what says that it is not executed."""


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    not_executed: str | None
    """Why no test executes it; None where one does."""

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str | None = None) -> list[Block]:
    """The fenced blocks of a page, named by its path in the repository, or of all pages."""
    return [block for path in ([ROOT / page] if page else PAGES) for block in _blocks(path)]


def _blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    lines = page.read_text().splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("```"):
            continue
        if start is None:
            start = number
            continue
        before = next((each for each in reversed(lines[:start]) if each.strip()), "")
        why = WHY.search(before)
        text = textwrap.dedent("\n".join(lines[start + 1 : number])) + "\n"
        language = lines[start].strip()[3:].strip()
        found.append(Block(str(page.relative_to(ROOT)), start + 1, language, text, why[1] if why else None))
        start = None
    assert start is None, f"{page} has a fence that does not end"
    return found
