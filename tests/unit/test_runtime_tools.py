"""Executing a tool: in time, in JSON, and no longer than its run wants it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from dataclasses import replace

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, ToolError, tool
from agentkit.core.messages import text_of_json as text_of
from agentkit.runtime.deadlines import time_left
from agentkit.tools import ToolContext
from tests.apps import App, in_background
from tests.turns import call
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

    app = App([call("hang")], "ok", tools=[hang_async if is_async else hang])
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

    app = App([call("count")], "ok", tools=[count])
    run_id = app.run()
    app.check(run_id)
    updates = [e for e in app.log(run_id) if e["type"] == "tool_execution_update"]
    assert [e["partialResult"] for e in updates] == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_what_a_tool_raises_is_an_error_for_the_model_whose_text_stays_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @tool
    def explode() -> str:
        """Explode."""
        raise ValueError("postgres://shop:secret@db.internal/shop is away")

    @tool
    def mumble(ctx: ToolContext) -> str:
        """Mumble."""
        ctx.update(object())
        return ""

    @tool
    def refuse() -> str:
        """Refuse."""
        raise ToolError("there is no order A-1")

    calls = [call("explode"), call("mumble"), call("refuse")]
    app = App(calls, "ok", tools=[explode, mumble, refuse])
    run = app.check(app.run())
    results = [m for m in run.messages if m["role"] == "toolResult"]
    assert [m["isError"] for m in results] == [True, True, True]
    shown = re.fullmatch(r"ValueError \(reference ([0-9a-f]{8})\)", text_of(results[0]))
    assert shown is not None
    [record] = [record for record in caplog.records if shown[1] in record.getMessage()]
    assert (record.levelname, run.id in record.getMessage(), "explode" in record.getMessage()) == ("ERROR", True, True)
    assert "db.internal" in caplog.text
    assert "db.internal" not in json.dumps(app.log(run.id))
    assert text_of(results[2]) == "there is no order A-1"


@pytest.mark.parametrize("is_async", [False, True])
def test_an_aborted_tool_notices_and_the_run_ends(is_async: bool) -> None:
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

    app = App([call("work")], "ok", tools=[work_async if is_async else work])
    run_id = app.start()
    thread = in_background(app.work)
    assert reached.wait(10)
    app.kit.abort(run_id, "enough")
    wait_until(lambda: app.kit.get(run_id).ended, what="the end")
    thread.join(10)
    assert noticed.wait(5)
    run = app.check(run_id)
    assert (run.status, run.error) == ("aborted", {"code": "aborted", "message": "enough"})


def test_a_tool_that_never_notices_is_outlived() -> None:
    reached, release = threading.Event(), threading.Event()

    @tool
    def never_ends() -> str:
        """Notice nothing."""
        reached.set()
        release.wait(30)
        return "late"

    app = App([call("never_ends")], "ok", tools=[never_ends])
    run_id = app.start()
    thread = in_background(app.work)
    assert reached.wait(10)
    app.kit.abort(run_id)
    thread.join(10)
    assert not thread.is_alive()
    release.set()
    run = app.check(run_id)
    assert run.status == "aborted"
    assert [m["role"] for m in run.messages] == ["user", "assistant"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tool_ends_with_the_time_of_its_run(is_async: bool) -> None:
    release = threading.Event()

    if is_async:

        @tool
        async def slow() -> str:
            """Wait."""
            await asyncio.sleep(60)
            return "late"

    else:

        @tool
        def slow() -> str:
            """Wait."""
            release.wait(60)
            return "late"

    app = App([call("slow")], "ok", tools=[slow])
    run_id = app.kit.start("a", "go", limits={"timeout": 0.2}).id
    run = app.work().check(run_id)
    release.set()
    assert (run.status, run.error["code"]) == ("failed", "limit_time")


def test_no_tool_begins_after_the_time_of_its_run() -> None:
    begun: list[int] = []

    @tool
    def late() -> str:
        """Be late."""
        begun.append(1)
        return "late"

    app = App([call("late")], "ok", tools=[late])
    run_id = app.kit.start("a", "go", limits={"timeout": 0.2}).id
    app.execute_next()
    record, agent = app.store.load(run_id).record, app.kit.bind("a")
    wait_until(
        lambda: (left := time_left(record, agent, app.store.now())) is not None and left <= 0,
        what="the run's time to be over",
    )
    run = app.work().check(run_id)
    assert (run.status, run.error["code"], begun) == ("failed", "limit_time", [])


def test_a_tool_that_has_moved_to_the_client_since_it_was_decided_on_is_not_executed_here() -> None:
    asked = {"decision": {"type": "object"}, "name": "show"}
    begun: list[int] = []

    def show() -> str:
        """Show."""
        begun.append(1)
        return "shown here"

    app = App([call("show")], "ok", tools=[tool(**asked)(show)])
    run_id = app.run()
    app.kit.resume(run_id, {})
    app.agent = replace(app.agent, tools=(tool(runs="client", **asked)(show),))
    run = app.another_worker().work().check(run_id)
    assert (run.status, [item["kind"] for item in run.pending]) == ("paused", ["client_execute"])
    app.kit.resume(run_id, result="shown there")
    run = app.work().check(run_id)
    assert (text_of(run.messages[2]), begun) == ("shown there", [])


def test_a_tool_that_has_become_a_sub_agent_since_it_was_decided_on_is_an_error_for_the_model() -> None:
    @tool(name="helper", decision={"type": "object"})
    def asked(input: str) -> str:
        """Help."""
        return ""

    app = App([call("helper", input="x")], "ok", tools=[asked])
    run_id = app.run()
    app.kit.resume(run_id, {})
    app.agent = replace(app.agent, tools=(Agent("helper", ScriptedModel(["x"])).as_tool(),))
    run = app.another_worker().work().check(run_id)
    assert run.status == "completed"
    assert "has become a sub-agent" in text_of(run.messages[2])


def test_a_worker_that_knows_nothing_of_an_agent_puts_no_tool_call_in_doubt() -> None:
    @tool(effects="once")
    def pay() -> str:
        """Pay."""
        return "paid"

    app = App([call("pay")], "done", tools=[pay])
    older = AgentKit([Agent("other", ScriptedModel([]))], store=app.store, queue=app.queue)
    run_id = app.start()
    older.execute(*app.queue.enqueued[0])
    app.execute_next()
    older.execute(*app.queue.enqueued[0])
    run = app.work().check(run_id)
    assert (run.status, run.messages[2]["content"][0]["text"]) == ("completed", "paid")
    assert not {"tool_in_doubt", "message_discard"} & {event["type"] for event in app.log(run_id)}


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("lacks", ["agent", "tool"])
def test_a_worker_that_lacks_the_agent_or_tool_of_one_call_of_many_gives_it_back_untouched(
    lacks: str, index: int
) -> None:
    @tool(effects="once")
    def pay(cents: int) -> str:
        """Pay."""
        return f"paid {cents}"

    app = App([call("pay", cents=cents) for cents in range(3)], "done", tools=[pay], max_attempts=2)
    name = "other" if lacks == "agent" else "a"
    older = AgentKit([Agent(name, ScriptedModel([]))], store=app.store, queue=app.queue, settings=app.kit.settings)
    run_id = app.start()
    app.execute_next()
    for _ in range(3):
        older.execute(*app.queue.enqueued[index])
    run = app.work().check(run_id)
    assert run.status == "completed"
    assert [text_of(message) for message in run.messages[2:5]] == ["paid 0", "paid 1", "paid 2"]
    assert "tool_in_doubt" not in {event["type"] for event in app.log(run_id)}
