"""Whether everybody can use a page, as far as a program finds out: the rules of axe-core, and the width of a screen."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

__all__ = ["SCREENS", "expect_accessible"]

SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 640}, "has_touch": True},
    "dark phone": {"viewport": {"width": 360, "height": 640}, "has_touch": True, "color_scheme": "dark"},
    "zoom": {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
}
"""Options of Playwright's contexts. "zoom": 1280 x 800 at 200 %."""


def expect_accessible(page: Page) -> None:
    """Fail where axe-core finds a violation, or where one has to scroll sideways to read."""
    results = Axe().run(page)
    assert not results.violations_count, results.generate_report()
    for part in ("document.documentElement", "document.querySelector('main')", "document.querySelector('.view')"):
        assert page.evaluate(f"!{part} || {part}.scrollWidth <= {part}.clientWidth"), f"{part} is wider than the screen"
