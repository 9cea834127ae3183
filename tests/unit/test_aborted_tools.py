"""What a tool leaves in the messages of a run that ends while it executes: nothing, whatever kind of tool it is.

A result that was there before the abort was asked for is kept.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from agentkit import Agent, ScriptedModel, tool
from agentkit.core.messages import text_of_json as text_of
from agentkit.core.record import AbortRequest
from agentkit.runtime import tool_step
from agentkit.tools import Tool, ToolContext
from tests.apps import App, in_background
from tests.loop_driver import Driver, texts_of
from tests.tools import look, pay
from tests.turns import call
from tests.waiting import wait_until

reached = threading.Event()
release = threading.Event()


@tool(name="work")
def notices(ctx: ToolContext) -> str:
    """Work until the abort is seen."""
    reached.set()
    wait_until(lambda: ctx.aborted, what="the abort")
    return "stopped half-way"


@tool(name="work")
def notices_and_raises(ctx: ToolContext) -> str:
    """Work until the abort is seen, and raise then."""
    reached.set()
    wait_until(lambda: ctx.aborted, what="the abort")
    raise RuntimeError("stopped half-way")


@tool(name="work")
def never_notices() -> str:
    """Work on."""
    reached.set()
    release.wait(30)
    return "late"


@tool(name="work")
async def is_cancelled() -> str:
    """Work until it is cancelled."""
    reached.set()
    await asyncio.sleep(30)
    return "late"


@tool(name="work")
async def returns_when_cancelled() -> str:
    """Work until it is cancelled, and return then."""
    reached.set()
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        return "stopped half-way"
    return "late"


@tool(name="work")
async def raises_when_cancelled() -> str:
    """Work until it is cancelled, and raise then."""
    reached.set()
    try:
        await asyncio.sleep(30)
    finally:
        raise RuntimeError("stopped half-way")


@tool(name="work")
async def never_ends() -> str:
    """Work on, though cancelled."""
    reached.set()
    while not release.is_set():
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            continue
    return "late"


@tool(name="work")
async def notices_async(ctx: ToolContext) -> str:
    """Work until the abort is seen."""
    reached.set()
    while not ctx.aborted:
        try:
            await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            continue
    return "stopped half-way"


TOOLS = [
    notices,
    notices_and_raises,
    never_notices,
    is_cancelled,
    returns_when_cancelled,
    raises_when_cancelled,
    never_ends,
    notices_async,
]
KINDS = [
    "sync notices",
    "sync notices and raises",
    "sync never notices",
    "async is cancelled",
    "async returns when cancelled",
    "async raises when cancelled",
    "async never ends",
    "async notices",
]


@tool
def first() -> str:
    """Be done at once."""
    return "done at once"


@pytest.fixture(autouse=True)
def _no_event_is_set() -> Any:
    reached.clear()
    release.clear()
    yield
    release.set()


def results(run: Any) -> list[str]:
    return [text_of(message) for message in run.messages if message["role"] == "toolResult"]


def aborted_run(*tools: Tool, calls: list[Any]) -> tuple[App, str]:
    """Abort a run whose tool `work` is at work; the calls before it have ended."""
    app = App(calls, "never said", tools=tools)
    run_id = app.start()
    app.execute_next()
    for _ in calls[1:]:
        app.execute_next()
    thread = in_background(app.execute_next)
    assert reached.wait(10)
    app.kit.abort(run_id, "enough")
    thread.join(10)
    assert not thread.is_alive()
    return app, run_id


@pytest.mark.parametrize("work", TOOLS, ids=KINDS)
def test_a_tool_that_an_abort_stops_or_outlives_has_no_result(work: Tool) -> None:
    app, run_id = aborted_run(work, calls=[call("work")])
    run = app.check(run_id)
    assert (run.status, results(run)) == ("aborted", [])
    assert [event["type"] for event in app.log(run_id)].count("tool_execution_end") == 1


@pytest.mark.parametrize("work", TOOLS, ids=KINDS)
def test_a_call_that_ended_before_the_abort_beside_such_a_tool_keeps_its_result(work: Tool) -> None:
    app, run_id = aborted_run(first, work, calls=[call("first"), call("work")])
    assert results(app.check(run_id)) == ["done at once"]


@pytest.mark.parametrize("work", TOOLS, ids=KINDS)
def test_a_tool_that_the_end_of_its_runs_time_stops_or_outlives_has_no_result(work: Tool) -> None:
    app = App([call("first"), call("work")], "never said", tools=[first, work])
    run_id = app.kit.start("a", "go", limits={"timeout": 1.0}).id
    run = app.work().check(run_id)
    assert (run.status, run.error["code"]) == ("failed", "limit_time")
    assert results(run) == ["done at once"]


@pytest.mark.parametrize(("point", "kept"), [("before tool", []), ("after tool", ["done at once"])])
@pytest.mark.parametrize("calls", [1, 2], ids=["alone", "beside another"])
def test_whether_a_result_is_kept_goes_by_when_the_tool_finished_and_not_by_when_its_worker_learns_of_the_abort(
    monkeypatch: pytest.MonkeyPatch, point: str, kept: list[str], calls: int
) -> None:
    app = App([call("first"), call("look")][:calls], "never said", tools=[first, look])
    run_id = app.start()
    app.execute_next()

    def abort_there(passed: str) -> None:
        if passed == point:
            before = app.store.now()
            wait_until(lambda: app.store.now() > before, what="a millisecond before the abort")
            app.kit.abort(run_id)
            asked = app.store.load(run_id).record.abort.at
            wait_until(lambda: app.store.now() > asked, what="a millisecond after the abort")

    monkeypatch.setattr(tool_step, "failpoint", abort_there)
    app.execute_next()
    run = app.check(run_id)
    assert (run.status, results(run)) == ("aborted", kept)


@pytest.mark.parametrize("reason", ["abort", "deadline"])
def test_no_tool_begins_once_its_worker_knows_that_the_run_is_to_end(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    begun: list[int] = []

    @tool
    def late() -> str:
        """Be late."""
        begun.append(1)
        return "late"

    app = App([call("late")], "never said", tools=[late])
    run_id = app.start()
    app.execute_next()

    def learn(passed: str) -> None:
        if passed == "before tool":
            if reason == "abort":
                app.kit.abort(run_id)
            [held] = app.kit.runner.keeper._held
            held.cancel.cancel(reason)

    monkeypatch.setattr(tool_step, "failpoint", learn)
    app.execute_next()
    run = app.check(run_id)
    assert (run.status, results(run), begun) == ("aborted" if reason == "abort" else "failed", [], [])


@pytest.mark.parametrize("reason", ["abort", "deadline"])
def test_a_tool_that_returns_as_soon_as_it_sees_the_end_has_no_result(reason: str) -> None:
    @tool
    def quick(ctx: ToolContext) -> str:
        """Be the first to learn that the run ends."""
        if reason == "abort":
            app.kit.abort(run_id)
        [held] = app.kit.runner.keeper._held
        callbacks, held.cancel._callbacks = held.cancel._callbacks, []
        held.cancel.cancel(reason)
        held.cancel._callbacks = callbacks
        assert ctx.aborted
        return "stopped half-way"

    app = App([call("quick")], "never said", tools=[quick])
    run_id = app.start()
    run = app.work().check(run_id)
    assert (run.status, results(run)) == ("aborted" if reason == "abort" else "failed", [])


# -- the transition --------------------------------------------------------------------------------


@pytest.mark.parametrize(("late_by", "kept"), [(-1, ["done"]), (0, ["done"]), (1, [])])
def test_a_result_is_kept_where_it_is_no_later_than_the_abort(late_by: int, kept: list[str]) -> None:
    run = Driver(look, pay).start().model([call("look"), call("look", "two")])
    claim = run.claim("tool", "two")
    run.claim("tool", "look")
    run.abort("stop")
    run.now += late_by
    assert run.abort(holding=True, finished=(claim.lease.step, run.result(claim, "done"), True))
    assert run.check().status == "aborted"
    assert texts_of(run.messages, "toolResult") == kept
    assert run.shape().count("tool_execution_end") == 2


def test_an_abort_that_an_earlier_version_asked_for_keeps_what_came_after_it() -> None:
    run = Driver(look).start().model([call("look")])
    claim = run.claim("tool", "look")
    state = run.state
    assert run.store.request_abort(run.run_id, AbortRequest("stop"), state.version)
    run.now += 10
    assert run.abort(holding=True, finished=(claim.lease.step, run.result(claim, "done"), True))
    assert texts_of(run.check().messages, "toolResult") == ["done"]


def test_what_a_sub_agent_came_to_after_the_abort_of_its_parent_is_no_result() -> None:
    helper = Agent("helper", ScriptedModel(["helped"], name="helper"))
    boss = ScriptedModel([[call("helper", input="help"), call("work")], "never said"], name="boss")
    app = App(model=boss, tools=[helper.as_tool(), never_notices])
    run_id = app.start()
    app.execute_next()
    [delegation, work] = app.queue.enqueued
    app.kit.execute(*delegation)
    [_, _, child_step] = app.queue.enqueued
    app.queue.enqueued.clear()
    thread = in_background(lambda: app.kit.execute(*work))
    assert reached.wait(10)
    app.kit.abort(run_id)
    aborted_at = app.store.load(run_id).record.abort.at
    wait_until(lambda: app.store.now() > aborted_at, what="a millisecond after the abort")
    app.kit.execute(*child_step)
    thread.join(10)
    run = app.work().check(run_id)
    assert (run.status, results(run)) == ("aborted", [])
    assert app.check(child_step[0]).ended
