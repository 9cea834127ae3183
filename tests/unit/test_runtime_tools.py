"""Executing a tool: in time, in JSON, and no longer than its run wants it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, tool
from agentkit.messages import text_of
from agentkit.tools import ToolContext
from tests.apps import App, in_background, one_call
from tests.waiting import wait_until


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tool_that_takes_too_long_is_an_error_for_the_model(is_async: bool) -> None:
    release = threading.Event()

    @tool(name="hang", timeout=0.05)
    def hang() -> str:
        """Hang."""
        release.wait(10)
        return "late"

    @tool(name="hang", timeout=0.05)
    async def hang_async() -> str:
        """Hang."""
        await asyncio.sleep(30)
        return "late"

    app = App(one_call("hang"), "ok", tools=[hang_async if is_async else hang])
    run = app.check(app.run())
    release.set()
    assert run.status == "completed"
    message = next(m for m in run.messages if m["role"] == "toolResult")
    assert message["isError"]
    assert "did not finish within 0.05 seconds" in text_of(message)


def test_a_tools_updates_are_events_between_its_start_and_its_end() -> None:
    @tool
    def count(ctx: ToolContext) -> str:
        """Count."""
        for n in range(3):
            ctx.update({"n": n})
        return "counted"

    app = App(one_call("count"), "ok", tools=[count])
    run_id = app.run()
    app.check(run_id)
    updates = [e for e in app.log(run_id) if e["type"] == "tool_execution_update"]
    assert [e["partialResult"] for e in updates] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_what_a_tool_raises_or_cannot_say_in_json_is_an_error_for_the_model() -> None:
    @tool
    def explode() -> str:
        """Explode."""
        raise ValueError("boom")

    @tool
    def mumble(ctx: ToolContext) -> str:
        """Mumble."""
        ctx.update(object())
        return ""

    app = App([*one_call("explode"), *one_call("mumble")], "ok", tools=[explode, mumble])
    run = app.check(app.run())
    results = [m for m in run.messages if m["role"] == "toolResult"]
    assert [m["isError"] for m in results] == [True, True]
    assert text_of(results[0]) == "ValueError: boom"


@pytest.mark.parametrize("is_async", [False, True])
def test_an_aborted_tool_notices_and_the_run_ends_within_a_second(is_async: bool) -> None:
    reached, noticed = threading.Event(), threading.Event()

    @tool(name="work")
    def work(ctx: ToolContext) -> str:
        """Work."""
        reached.set()
        wait_until(lambda: ctx.aborted, what="the abort")
        noticed.set()
        return "stopped"

    @tool(name="work")
    async def work_async() -> str:
        """Work."""
        reached.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            noticed.set()
            raise
        return "never"

    app = App(one_call("work"), "ok", tools=[work_async if is_async else work])
    run_id = app.start()
    thread = in_background(app.work)
    assert reached.wait(10)
    app.kit.abort(run_id, "enough")
    at = time.monotonic()
    wait_until(lambda: app.kit.get(run_id).ended, what="the end", timeout=1.5)
    assert time.monotonic() - at < 1.2
    thread.join(10)
    assert noticed.wait(5)
    run = app.check(run_id)
    assert (run.status, run.error) == ("aborted", {"code": "aborted", "message": "enough"})


def test_a_tool_that_never_notices_is_outlived() -> None:
    reached, release = threading.Event(), threading.Event()

    @tool
    def deaf() -> str:
        """Hear nothing."""
        reached.set()
        release.wait(30)
        return "late"

    app = App(one_call("deaf"), "ok", tools=[deaf])
    run_id = app.start()
    thread = in_background(app.work)
    assert reached.wait(10)
    app.kit.abort(run_id)
    thread.join(2)
    assert not thread.is_alive()
    release.set()
    run = app.check(run_id)
    assert run.status == "aborted"
    assert [m["role"] for m in run.messages] == ["user", "assistant"]


def test_a_worker_that_knows_nothing_of_an_agent_puts_no_tool_call_in_doubt() -> None:
    @tool(effects="once")
    def pay() -> str:
        """Pay."""
        return "paid"

    app = App(one_call("pay"), "done", tools=[pay])
    older = AgentKit([Agent("other", ScriptedModel([]))], store=app.store, nudger=app.nudger)
    run_id = app.start()
    older.execute(*app.nudger.told[0])
    app.kit.execute(*app.nudger.told.pop(0))
    older.execute(*app.nudger.told[0])
    run = app.work().check(run_id)
    assert (run.status, run.messages[2]["content"][0]["text"]) == ("completed", "paid")
    assert not {"tool_in_doubt", "message_discard"} & {event["type"] for event in app.log(run_id)}
