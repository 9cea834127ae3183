"""axe-core, which finds what keeps people with disabilities from using a page. It is in examples/chat (`npm ci`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.needs import without

__all__ = ["violations"]

_SCRIPT = Path(__file__).parents[1] / "examples" / "chat" / "node_modules" / "axe-core" / "axe.min.js"


def violations(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is now, by all of its rules: the rule, and the elements."""
    if not _SCRIPT.exists():
        without("axe-core is not there (npm ci in examples/chat)")
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(_SCRIPT.read_text())  # by the debugger's protocol, which the page's policy does not bind
    results: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for found in results["violations"]
        for node in found["nodes"]
    ]
