"""What an application puts around its steps: entered where they are executed, and failing them as a crash would."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from agentkit import Agent, AgentKit, ScriptedModel, Settings, StepInfo, tool
from agentkit.hooks import AroundStep
from agentkit.store.memory import MemoryStore
from tests.apps import FakeQueue
from tests.turns import call

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


class _Around:
    """Notes each step that it is put around, and the thread; raises where it is told to."""

    def __init__(self, fail_enter: str | None = None, fail_exit: str | None = None) -> None:
        self.entered: list[tuple[str, str | None, int]] = []
        self.left: list[BaseException | None] = []
        self.threads: list[str] = []
        self._fail_enter = fail_enter
        self._fail_exit = fail_exit

    @contextmanager
    def __call__(self, step: StepInfo) -> Iterator[None]:
        self.entered.append((step.kind, step.tool, step.attempt))
        self.threads.append(threading.current_thread().name)
        assert step.agent == "a"
        assert step.run_id
        if self._fail_enter == step.kind:
            raise KeyError("no connection")
        token = tenant.set(step.tool or "model")
        try:
            yield
        except BaseException as error:
            self.left.append(error)
            raise
        else:
            self.left.append(None)
        finally:
            tenant.reset(token)
        if self._fail_exit == step.kind:
            raise KeyError("no commit")


seen: list[tuple[str, str]] = []


@tool
def plain(fail: bool = False) -> str:
    """Note the tenant."""
    seen.append((tenant.get(), threading.current_thread().name))
    if fail:
        raise ValueError("the tool's own")
    return "plain"


@tool
async def waiting() -> str:
    """Note the tenant."""
    seen.append((tenant.get(), ""))
    return "waiting"


@tool
async def failing() -> str:
    """Fail."""
    raise ValueError("the tool's own")


@tool(effects="once")
def charge() -> str:
    """Charge a card."""
    seen.append(("charge", ""))
    return "charged"


def _run(around: AroundStep, *calls: dict[str, Any], **settings: Any) -> Any:
    """Carry a run out as workers do: a step that fails is enqueued again, as recovery would."""
    seen.clear()
    agent = Agent(
        "a", ScriptedModel([[*calls], "Done."]), tools=[plain, waiting, failing, charge], parallel_tool_calls=False
    )
    queue, store = FakeQueue(), MemoryStore()
    kit = AgentKit([agent], around_step=around, settings=Settings(**settings), store=store, queue=queue)
    run_id = kit.start("a", "hi").id
    while queue.enqueued:
        step = queue.enqueued.pop(0)
        try:
            kit.execute(*step)
        except KeyError:
            queue.enqueued.append(step)
    return kit.get(run_id)


def test_each_model_call_and_each_tool_is_executed_within_it() -> None:
    around = _Around()
    run = _run(around, call("plain"), call("waiting"))
    assert run.status == "completed"
    assert around.entered == [
        ("model", None, 1),
        ("tool", "plain", 1),
        ("tool", "waiting", 1),
        ("model", None, 1),
    ]
    assert [tenant for tenant, _ in seen] == ["plain", "waiting"]
    assert around.left == [None] * 4


def test_a_def_tools_own_thread_enters_it() -> None:
    around = _Around()
    _run(around, call("plain"))
    assert around.threads[1] == seen[0][1] == "tool-plain"


@pytest.mark.parametrize("asked", [call("plain", fail=True), call("failing")])
def test_the_tools_own_exception_passes_through_it_and_stays_the_tools(asked: dict[str, Any]) -> None:
    around = _Around()
    run = _run(around, asked)
    assert run.status == "completed"
    assert isinstance(around.left[1], ValueError)
    result = next(message for message in run.messages if message["role"] == "toolResult")
    assert result["isError"]
    assert "ValueError" in result["content"][0]["text"]


@contextmanager
def _suppressing(step: StepInfo) -> Iterator[None]:
    with suppress(Exception):
        yield


@pytest.mark.parametrize("asked", [call("plain", fail=True), call("failing")])
def test_a_tools_exception_that_it_suppresses_is_the_tools_result_all_the_same(asked: dict[str, Any]) -> None:
    run = _run(_suppressing, asked)
    assert run.status == "completed"
    result = next(message for message in run.messages if message["role"] == "toolResult")
    assert result["isError"]
    assert "ValueError" in result["content"][0]["text"]


def test_a_model_call_that_failed_by_a_bug_fails_its_step_though_it_suppresses_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(context: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("agentkit.runtime.steps.run_model_step", broken)
    run = _run(_suppressing, max_attempts=2)
    assert run.status == "failed"
    assert "KeyError" in run.error["message"]


@pytest.mark.parametrize("kind", ["model", "tool"])
def test_what_it_raises_on_entering_fails_the_step_until_its_attempts_are_used_up(kind: str) -> None:
    around = _Around(fail_enter=kind)
    run = _run(around, call("plain"), max_attempts=2)
    assert run.status == "failed"
    assert run.error["code"] == "step_failed"
    assert "KeyError" in run.error["message"]
    assert [entry for entry in around.entered if entry[0] == kind] == [
        (kind, "plain" if kind == "tool" else None, attempt) for attempt in (1, 2)
    ]
    assert seen == []


def test_a_tool_that_may_run_once_is_in_doubt_when_it_raises_on_leaving() -> None:
    around = _Around(fail_exit="tool")
    run = _run(around, call("charge"), max_attempts=5)
    assert run.status == "paused"
    assert [item["kind"] for item in run.pending] == ["in_doubt"]
    assert seen == [("charge", "")]
