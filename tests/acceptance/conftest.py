"""One stack of real processes for all tests that want one: starting it takes longer than most of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.acceptance.chat_page import Tab
from tests.acceptance.stack import Stack
from tests.brokers import Broker, RabbitBroker, ValkeyBroker
from tests.browser import chromium
from tests.servers import ValkeyServer

_LOG_TAIL = 6000
_began = pytest.StashKey[dict[str, int]]()


BROKERS = ("redis", "other-redis", "rabbitmq")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each broker that its mark `brokers` names, and without the mark on the store's own Redis."""
    name = "broker"
    if name in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("brokers")
        metafunc.parametrize(name, mark.args or BROKERS if mark else ("redis",), indirect=True, scope="session")


@pytest.fixture(scope="session")
def other_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey that is no store, and keeps its data as the store's does."""
    with ValkeyServer(tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> str:
    """The kind of broker that a stack has."""
    kind: str = request.param
    return kind


def make_broker(kind: str, vhost: str, request: pytest.FixtureRequest) -> Broker | None:
    """The broker for a stack; None where it is the store."""
    if kind == "rabbitmq":
        return RabbitBroker(request.getfixturevalue("rabbitmq"), vhost)
    return ValkeyBroker(request.getfixturevalue("other_redis")) if kind == "other-redis" else None


@pytest.fixture(scope="session")
def shared_stack(
    broker: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), broker=make_broker(broker, "stack", request))
    try:
        yield stack
    finally:
        stack.close()


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
