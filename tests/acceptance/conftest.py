"""One stack of real processes for all tests that want one: starting it takes longer than most of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.acceptance.chat_page import Tab
from tests.acceptance.stack import Stack
from tests.browser import chromium

_LOG_TAIL = 6000
_began = pytest.StashKey[dict[str, int]]()


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        yield stack
    finally:
        stack.kill_everything()
        stack.store.stop()


@pytest.fixture
def stack(shared_stack: Stack, request: pytest.FixtureRequest) -> Stack:
    """The stack with everything running. A test may kill what it likes: the next one finds it started again."""
    request.node.stash[_began] = {process.name: process.log_size() for process in shared_stack.processes}
    shared_stack.repair()
    return shared_stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of a file. (Two Playwrights at once in a thread do not work.)"""
    with chromium() as running:
        yield running


@pytest.fixture
def open_tab(stack: Stack, browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Opens a tab at a path of the first web process; the options are those of Playwright's contexts."""
    tabs: list[Tab] = []

    def open_(path: str = "/", **options: Any) -> Tab:
        context = browser.new_context(locale="en-US", **options)
        tabs.append(Tab(context, f"http://127.0.0.1:{stack.web_a.port}{path}"))
        return tabs[-1]

    yield open_
    for tab in tabs:
        tab.close()
        tab.page.context.close()


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    return open_tab()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    """Show what the processes logged during a test that failed."""
    outcome: Any = yield
    report = outcome.get_result()
    stack = getattr(item, "funcargs", {}).get("shared_stack")
    if report.failed and stack is not None:
        for process in stack.processes:
            said = process.log(item.stash.get(_began, {}).get(process.name, 0))
            report.sections.append((f"log of {process.name}", said[-_LOG_TAIL:]))
