"""Executing steps: whole runs, model calls, aborts, attempts after a crash."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import Agent, AgentKit, tool
from agentkit.core.messages import text_of_json as text_of
from agentkit.settings import Settings
from agentkit.tools import ToolContext
from tests.apps import App, Failing, Silent, die, in_background
from tests.event_rules import shape
from tests.tools import YES, pay, refund
from tests.turns import call
from tests.waiting import wait_until

# -- whole runs ------------------------------------------------------------------------------------


def test_a_run_with_tools_and_a_decision_is_executed_step_by_step() -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    @tool(decision={"type": "object", "required": ["approved"]})
    async def refund(cents: int, decision: Any, ctx: ToolContext) -> str:
        """Refund."""
        return f"{cents} {decision['approved']} {ctx.attempt} {ctx.metadata}"

    turns = [
        [call("add", a=1, b=2)],
        [call("refund", cents=5)],
        "done",
    ]
    app = App(*turns, tools=[add, refund])
    run_id = app.start()
    app.work()
    assert app.check(run_id).status == "paused"
    app.kit.resume(run_id, YES)
    run = app.work().check(run_id)
    assert run.status == "completed"
    results = [text_of(m) for m in run.messages if m["role"] == "toolResult"]
    assert results == ["3", "5 True 1 {}"]


def test_messages_that_come_twice_or_late_do_nothing() -> None:
    app = App("hello")
    run_id = app.start()
    message = app.queue.enqueued[0]
    app.work()
    before = app.log(run_id)
    app.kit.execute(*message)
    app.kit.execute(run_id, 99)
    app.kit.execute("no-such-run", 1)
    assert app.log(run_id) == before


def test_a_model_that_fails_ends_its_run_with_what_it_said() -> None:
    app = App(model=Failing())
    run = app.check(app.run())
    assert (run.status, run.error) == ("failed", {"code": "provider_error", "message": "overloaded"})
    assert text_of(run.messages[-1]) == "I th"
    assert run.messages[-1]["errorMessage"] == "overloaded"


# -- model calls ---------------------------------------------------------------------------------


def test_what_a_model_streams_is_in_the_log_before_it_is_finished() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(app.work)
    assert model.reached.wait(10)
    wait_until(lambda: app.log(run_id)[-1]["type"] == "message_update", what="the first token")
    app.kit.abort(run_id)
    thread.join(10)
    app.check(run_id)


def test_an_abort_ends_the_run_of_a_silent_model() -> None:
    model = Silent()
    app = App(model=model)
    run_id = app.start()
    thread = in_background(app.work)
    assert model.reached.wait(10)
    app.kit.abort(run_id, "too slow")
    thread.join(10)
    assert not thread.is_alive()
    run = app.check(run_id)
    assert (run.status, run.error) == ("aborted", {"code": "aborted", "message": "too slow"})
    assert (text_of(run.messages[-1]), run.messages[-1]["stopReason"]) == ("well", "aborted")


def test_a_silent_model_ends_with_the_time_of_its_run() -> None:
    app = App(model=Silent())
    run_id = app.kit.start("a", "go", limits={"timeout": 0.1}).id
    run = app.work().check(run_id)
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "limit_time")


# -- attempts --------------------------------------------------------------------------------------


def test_a_model_step_that_killed_its_worker_is_executed_again() -> None:
    app = App("hello")
    run_id = app.start()
    die(app, run_id, 1)
    run = app.work().check(run_id)
    assert run.status == "completed"
    assert shape(app.log(run_id)).count("message_discard") == 1


def test_a_step_that_kills_every_worker_fails_its_run() -> None:
    app = App("hello", max_attempts=2)
    run_id = app.start()
    for _ in range(2):
        die(app, run_id, 1)
    run = app.work().check(run_id)
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "step_failed")
    assert run.messages[-1]["stopReason"] == "error"


def test_a_tool_that_kills_every_worker_fails_its_run() -> None:
    @tool
    def poison() -> str:
        """Poison."""
        return ""

    app = App([call("poison")], "ok", tools=[poison], max_attempts=2)
    run_id = app.start()
    app.execute_next()
    for _ in range(2):
        die(app, *app.queue.enqueued[0])
    run = app.work().check(run_id)
    assert run.error is not None
    assert (run.status, run.error["code"]) == ("failed", "step_failed")


def test_an_idempotent_tool_is_executed_again_with_the_same_key() -> None:
    keys: list[tuple[int, str]] = []

    @tool
    def note(ctx: ToolContext) -> str:
        """Note."""
        keys.append((ctx.attempt, ctx.idempotency_key))
        return "noted"

    app = App([call("note")], "ok", tools=[note])
    first, second = app.start(), app.start()
    for run_id in (first, second):
        app.kit.execute(run_id, 1)
    die(app, first, 2)
    app.work()
    assert app.check(first).status == app.check(second).status == "completed"
    assert [attempt for attempt, _ in keys] == [2, 1]
    assert len({key for _, key in keys}) == 2
    assert shape(app.log(first)).count("tool_execution_start") == 1


@pytest.mark.parametrize(("verdict", "calls"), [("retry", 1), ("done", 0), ("failed", 0)])
def test_a_tool_with_effects_once_asks_after_a_crash(verdict: str, calls: int) -> None:
    paid: list[str] = []

    @tool(effects="once")
    def pay() -> str:
        """Pay."""
        paid.append("paid")
        return "paid now"

    app = App([call("pay")], "ok", tools=[pay])
    run_id = app.start()
    app.execute_next()
    die(app, *app.queue.enqueued[0])
    app.work()
    assert app.check(run_id).pending[0]["kind"] == "in_doubt"
    assert paid == []
    app.kit.resume(run_id, {"verdict": verdict, "result": "as was said"})
    run = app.work().check(run_id)
    assert run.status == "completed"
    assert len(paid) == calls
    message = next(m for m in run.messages if m["role"] == "toolResult")
    assert (text_of(message), message["isError"]) == (
        "paid now" if verdict == "retry" else "as was said",
        verdict == "failed",
    )


def test_a_worker_without_the_tool_gives_the_run_back() -> None:
    app = App([call("refund")], "ok", tools=[refund])
    run_id = app.run()
    app.kit.resume(run_id, YES)
    other = AgentKit([Agent("a", app.agent.model)], settings=Settings(), store=app.store, queue=app.queue)
    other.execute(*app.queue.enqueued.pop(0))
    assert app.check(run_id).status == "paused"
    assert "tool_not_registered" in app.log(run_id)[-1]["reason"]
    app.kit.resume(run_id, YES)
    assert app.work().check(run_id).status == "completed"


def test_an_abort_that_meets_a_question_ends_the_run() -> None:
    """The abort comes between the claim and the commit of a step that would pause the run."""

    app = App([call("pay")], "ok", tools=[pay])
    run_id = app.start()
    app.execute_next()
    die(app, *app.queue.enqueued[0])
    load, claim = app.store.load, app.store.claim

    def claim_then_abort(*args: Any, **named: Any) -> Any:
        claimed_step = claim(*args, **named)
        app.kit.abort(run_id)
        return claimed_step

    app.store.claim = claim_then_abort  # type: ignore[method-assign]
    app.work()
    assert load(run_id).record.status == "aborted"
    app.check(run_id)
