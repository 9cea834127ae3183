"""What takes no longer than the documentation says, by the wall clock. Tests in tests/unit look at no clock."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agentkit import tool
from agentkit.tools import ToolContext
from tests.apps import App, Silent, in_background
from tests.turns import call
from tests.waiting import wait_until

LEASE_SECONDS = 0.5


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where the block takes longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.2f} s"


def test_an_abort_of_a_silent_model_takes_less_than_a_second() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(app.work)
    assert model.reached.wait(10)
    with within(1):
        app.kit.abort(run_id)
        thread.join(10)
    assert app.check(run_id).status == "aborted"


@pytest.mark.parametrize("is_async", [False, True])
def test_an_abort_of_a_tool_that_notices_it_takes_about_a_second(is_async: bool) -> None:
    reached = threading.Event()

    @tool(name="work")
    def work(ctx: ToolContext) -> str:
        """Work."""
        reached.set()
        wait_until(lambda: ctx.aborted, what="the abort")
        return "stopped"

    @tool(name="work")
    async def work_async() -> str:
        """Work."""
        reached.set()
        await asyncio.sleep(30)
        return "never"

    app = App([call("work")], "ok", tools=[work_async if is_async else work])
    run_id = app.start()
    thread = in_background(app.work)
    assert reached.wait(10)
    with within(1.2):
        app.kit.abort(run_id)
        thread.join(10)
    assert app.check(run_id).status == "aborted"


def sweep_until_found(app: App) -> list[tuple[str, int]]:
    recovery = app.kit.recovery()
    wait_until(lambda: recovery.sweep() and app.queue.enqueued, what="a sweep that finds something")
    return app.queue.enqueued


def test_a_lost_message_is_found_within_the_lease_time() -> None:
    app = App("hello", lease_seconds=LEASE_SECONDS)
    run_id = app.start()
    app.queue.enqueued.clear()
    with within(LEASE_SECONDS):
        assert sweep_until_found(app) == [(run_id, 1)]


def test_a_run_whose_recovery_check_was_cut_off_by_a_death_is_found_within_two_lease_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = App("hello", lease_seconds=LEASE_SECONDS)
    run_id = app.start()

    def killed(*_: Any) -> None:
        raise SystemExit

    app.queue.enqueued.clear()
    with monkeypatch.context() as patch:
        patch.setattr(app.queue, "enqueue", killed)
        with pytest.raises(SystemExit):
            wait_until(app.kit.recovery().sweep, what="a sweep that finds something")
    with within(2 * LEASE_SECONDS):
        assert sweep_until_found(app) == [(run_id, 1)]
