"""Messages that a worker cannot use: they go back to the queue at once, each time a little later, and not for ever."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, ToolContext, tool
from agentkit.core.ids import new_id
from agentkit.runtime.returns import Returns
from agentkit.runtime.timer import Timer
from agentkit.settings import Settings
from agentkit.testing.store_changes import new_run
from tests.apps import App
from tests.turns import call
from tests.waiting import wait_until

ATTEMPTS: list[int] = []


@tool
def newer(ctx: ToolContext) -> str:
    """A tool of the next version."""
    ATTEMPTS.append(ctx.attempt)
    return "the new way"


@tool
def older() -> str:
    """A tool of both."""
    return ""


def kit_of(app: App, agent: Agent, **settings: Any) -> AgentKit:
    return AgentKit([agent], settings=Settings(flush_seconds=0, **settings), store=app.store, queue=app.queue)


def waits_for_return(app: App) -> float:
    """How many seconds it takes until a message is in the queue."""
    began = time.monotonic()
    wait_until(lambda: app.queue.enqueued, what="the message to come back")
    return time.monotonic() - began


def test_a_run_whose_agent_a_worker_does_not_know_goes_to_another_at_once(caplog: pytest.LogCaptureFixture) -> None:
    app = App("done")
    old = kit_of(app, Agent("b", ScriptedModel([""])))
    run_id = app.start()
    delays = []
    for _ in range(3):
        old.execute(*app.queue.enqueued.pop())
        assert app.store.load(run_id).live == {}, "others may claim it"
        delays.append(waits_for_return(app))
    assert delays[0] < 0.3
    assert delays[0] < delays[1] < delays[2] < 1
    assert f"run {run_id}: this worker cannot execute step 1, and gives it back" in caplog.text
    assert "there is no agent 'a'" in caplog.text
    assert app.work().check(run_id).status == "completed"


@pytest.mark.parametrize("effects", ["idempotent", "once"])
def test_a_call_of_a_tool_that_an_older_worker_does_not_have_goes_to_a_newer_one(effects: Any) -> None:
    ATTEMPTS.clear()
    newer_tool = tool(name="newer", effects=effects)(newer.fn)
    app = App([call("newer")], "done", tools=[older, newer_tool])
    old = kit_of(app, Agent("a", ScriptedModel([""]), tools=[older]))
    run_id = app.start()
    app.execute_next()
    for _ in range(2):
        old.execute(*app.queue.enqueued.pop())
        assert waits_for_return(app) < 0.5
    run = app.work().check(run_id)
    assert run.status == "completed"
    assert run.messages[2]["content"][0]["text"] == "the new way"
    assert ATTEMPTS == [1], "nothing was begun by who could not do it"


def test_a_call_of_a_tool_that_no_worker_has_becomes_an_error_result_after_about_a_lease_time() -> None:
    app = App([call("newer")], "done", tools=[older, newer])
    old = kit_of(app, Agent("a", ScriptedModel([[call("newer")], "done"]), tools=[older]), lease_seconds=0.3)
    run_id = app.start()
    app.execute_next()

    def ended() -> bool:
        while app.queue.enqueued:
            old.execute(*app.queue.enqueued.pop(0))
        return app.kit.get(run_id).status == "completed"

    wait_until(ended, what="the end of the run")
    assert app.check(run_id).messages[2]["isError"]


def test_a_run_of_a_newer_version_goes_back_untouched() -> None:
    app = App("done")
    run_id = new_run(app.store, schema_version=99)
    app.kit.execute(run_id, 1)
    assert waits_for_return(app) < 0.5
    assert app.queue.enqueued == [(run_id, 1)]


def test_a_message_whose_run_is_in_another_store_goes_back_a_few_times_and_is_then_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, run_id = App("done"), new_id()
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        app.kit.execute(run_id, 1, "tool")
        waits_for_return(app)
        assert app.queue.enqueued.pop() == (run_id, 1)
    assert "another installation sends to the same queue" in caplog.text
    returns = Returns(Timer(), 30)
    assert [returns.next_delay(run_id, 1, limit=5) for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, None, None]


def test_delays_double_up_to_the_lease_time_and_then_the_step_is_left_to_recovery() -> None:
    returns = Returns(Timer(), 1.0)
    assert [returns.next_delay("r", 1) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, None, None]
    assert returns.next_delay("r", 2) == 0.1, "each step has its own"
