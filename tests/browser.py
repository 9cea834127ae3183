"""A real browser for tests: Debian's Chromium, driven by Playwright, which never downloads one of its own here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.needs import program

__all__ = ["chromium"]

# A closed network must not be asked for anything, and in a container there is no sandbox for root.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium, which ends with the context."""
    path = program("chromium-headless-shell", "chromium", "google-chrome", "chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
