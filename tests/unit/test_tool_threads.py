"""Where tools are executed: in threads that are used again, on an event loop of their own, in the caller's context."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
import sys
import threading
from typing import Any

import flask
import pytest

from agentkit import Agent, AgentKit, ScriptedModel, tool
from agentkit.core.event_loop import event_loop, submit
from agentkit.core.messages import text_of_json as text_of
from agentkit.runtime import tool_loop, tool_threads
from tests.apps import App
from tests.turns import call
from tests.waiting import wait_until

VARIABLE = contextvars.ContextVar("variable", default="LOST")


def results(kit: AgentKit) -> list[str]:
    return [text_of(message) for message in kit.run("a", "x").messages if message["role"] == "toolResult"]


def kit_of(*tools: Any, turns: int = 1) -> AgentKit:
    return AgentKit(
        [Agent("a", ScriptedModel([*([call(t.name) for t in tools] for _ in range(turns)), "ok"]), tools=tools)]
    )


@tool
def read_variable() -> str:
    """Read the variable."""
    return VARIABLE.get()


@tool
async def read_variable_async() -> str:
    """Read the variable."""
    await asyncio.sleep(0)
    return VARIABLE.get()


def test_tools_have_the_context_variables_of_their_step() -> None:
    kit = kit_of(read_variable, read_variable_async)
    for value in ("one", "two"):
        VARIABLE.set(value)
        assert results(kit) == [value, value]


def test_what_a_tool_sets_stays_in_it() -> None:
    @tool
    def set_variable() -> str:
        """Set the variable."""
        VARIABLE.set("the tool's")
        return "set"

    VARIABLE.set("mine")
    assert results(kit_of(set_variable, read_variable, read_variable_async)) == ["set", "mine", "mine"]
    assert VARIABLE.get() == "mine"


def test_tools_have_the_application_context_of_their_step() -> None:
    @tool
    def plain() -> str:
        """Name the application."""
        return flask.current_app.name

    @tool
    async def polite() -> str:
        """Name the application."""
        return flask.current_app.name

    with flask.Flask("shop").app_context():
        assert results(kit_of(plain, polite)) == ["shop", "shop"]


def test_the_threads_of_tools_are_used_again() -> None:
    threads: list[threading.Thread] = []

    @tool
    def note_thread() -> str:
        """Note the thread."""
        threads.append(threading.current_thread())
        assert threading.current_thread().name == "tool-note_thread"
        return "noted"

    results(kit_of(note_thread, turns=10))
    assert len(threads) == 10
    assert len(set(threads)) <= 2, "the second where the first has not yet gone back"


def test_an_idle_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_threads, "IDLE_SECONDS", 0.01)
    threads: list[threading.Thread] = []
    tool_threads.run_in_tool_thread("t", lambda: threads.append(threading.current_thread()))
    wait_until(lambda: threads and not threads[0].is_alive(), what="the end of the thread")
    assert threads[0] not in tool_threads._idle


def test_tools_that_outlive_their_steps_keep_no_thread_from_others() -> None:
    release = threading.Event()

    @tool(timeout=0.02)
    def hang() -> str:
        """Hang."""
        release.wait(20)
        return "late"

    @tool
    def quick() -> str:
        """Be quick."""
        return "quick"

    try:
        results(kit_of(hang, turns=40))
        assert results(kit_of(quick)) == ["quick"]
    finally:
        release.set()


# -- the event loop of async tools


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_async_tool_that_wants_to_end_its_process_is_an_error_and_nothing_more(error: type[BaseException]) -> None:
    @tool
    async def leave() -> str:
        """Leave."""
        raise error(4)

    @tool
    async def leave_in_a_task() -> str:
        """Leave in a task."""

        async def part() -> None:
            raise error(4)

        task = asyncio.ensure_future(part())
        await asyncio.wait([task])
        assert isinstance(task.exception(), error)
        return "left"

    first, second, after = results(kit_of(leave, leave_in_a_task, read_variable_async))
    assert first.startswith(error.__name__)
    assert second == "left"
    assert after == VARIABLE.get()


def test_an_event_loop_goes_on_whatever_a_callback_raises() -> None:
    async def answer() -> str:
        return "here"

    for loop in (event_loop(), tool_loop._loop.get()):
        loop.call_soon_threadsafe(sys.exit, 4)
        assert asyncio.run_coroutine_threadsafe(answer(), loop).result(5) == "here"


def test_an_async_tool_that_blocks_is_named_and_stops_no_model_stream(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tool_loop, "BLOCKED_SECONDS", 0.05)
    monkeypatch.setattr(tool_loop, "_PAUSE_SECONDS", 0.01)
    streamed: list[str] = []

    async def stream() -> None:
        streamed.append("part")

    def warned() -> bool:
        return any("blocking" in record.getMessage() for record in caplog.records)

    @tool
    async def blocking() -> str:
        """Block."""
        submit(stream()).result(5)
        wait_until(warned, what="the warning")
        return "done"

    with caplog.at_level(logging.WARNING):
        assert results(kit_of(blocking)) == ["done"]
    assert streamed == ["part"]
    (warning,) = [record for record in caplog.records if record.name == tool_loop.__name__]
    assert "the async tool blocking has blocked the event loop" in warning.getMessage()
    assert "test_tool_threads.py" in warning.getMessage(), "it says where"


UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
from agentkit.core import event_loop
from agentkit.runtime import tool_loop

async def answer():
    return "here"

print(event_loop.submit(answer()).result(5), tool_loop.submit_tool("t", answer).result(5)(), tool_loop.answers())
"""


def test_under_gevent_async_tools_are_executed_beside_model_streams() -> None:
    done = subprocess.run([sys.executable, "-c", UNDER_GEVENT], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["here", "here", "True"], done.stderr


def test_an_async_tool_that_waits_is_no_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tool_loop, "BLOCKED_SECONDS", 2)
    monkeypatch.setattr(tool_loop, "_PAUSE_SECONDS", 0.01)

    @tool
    async def polite() -> str:
        """Wait."""
        for _ in range(20):
            await asyncio.sleep(0.005)
        return "done"

    assert results(kit_of(polite)) == ["done"]
    assert not [record for record in caplog.records if record.name == tool_loop.__name__]


def test_a_tool_that_blocks_is_given_up_at_its_timeout() -> None:
    release = threading.Event()

    @tool(timeout=0.05)
    async def blocking() -> str:
        """Block."""
        release.wait(10)
        return "late"

    app = App([call("blocking")], "ok", tools=[blocking])
    try:
        assert app.check(app.run()).status == "completed"
    finally:
        release.set()
