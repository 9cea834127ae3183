"""One stack of real processes for all tests that want one: starting it takes longer than most of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.stack import Stack

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
