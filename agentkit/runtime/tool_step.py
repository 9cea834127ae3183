"""The tool step: one tool call executed, or its answer carried out where nothing is to be executed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from agentkit.agents import BoundAgent
from agentkit.core import event_loop as aio
from agentkit.core import events as ev
from agentkit.core import strictjson
from agentkit.core.events import Event
from agentkit.core.ids import now_ms
from agentkit.core.messages import Json
from agentkit.core.record import Call, Change, RunState
from agentkit.errors import LeaseLostError
from agentkit.loop import ask_client, delegate, doubt, fail, finish_tool, park
from agentkit.runtime.deadlines import TIME_IS_OVER
from agentkit.runtime.failpoints import failpoint
from agentkit.runtime.leases import Held
from agentkit.tools import Tool, ToolContext, ToolResult, error_result, invalid_arguments, to_result

if TYPE_CHECKING:
    from agentkit.runtime.steps import StepRunner

__all__ = ["run_tool_step"]

log = logging.getLogger(__name__)

ABORT_GRACE_SECONDS = 0.3
"""How long an aborted tool may take to notice, before the run ends without it."""


def run_tool_step(runner: StepRunner, held: Held, agent: BoundAgent) -> None:
    """Give the step's call its result and commit it."""
    record = held.state.record
    step = record.step(held.lease.step)
    assert step is not None
    assert step.call is not None
    call = record.calls[step.call]
    tool = agent.tool(call.name)
    number = held.lease.step
    updates: tuple[Event, ...] = ()
    result: ToolResult | None

    def ask(question: Callable[[RunState], Change]) -> None:
        """Commit what leaves the call open, unless the run was aborted meanwhile."""
        runner.commit(held, lambda state: question(state) if state.record.abort is None else runner.aborted(state))

    given = _given_result(call)
    if given is not None:
        result, executed = given, False
    elif tool is None and call.answer is not None:
        reason = f"tool_not_registered: the worker has no tool {call.name!r}"
        ask(lambda state: park(state, number, now_ms(), reason))
        return
    elif tool is None:
        result, executed = error_result(f"the tool {call.name!r} is not registered"), True
    elif call.answer is not None and (problems := tool.input_problems(call.args)):
        # They were valid when the call was admitted: the tool has changed while the run waited.
        result, executed = invalid_arguments(problems), True
    elif tool.runs == "client":
        # Its decision was taken by a process that did not know it, or it has moved to the client since.
        ask(lambda state: ask_client(state, agent, number, now_ms()))
        return
    elif tool.agent is not None and call.child is None:
        result, executed = error_result(f"the tool {call.name!r} has become a sub-agent since the call was made"), True
    elif tool.agent is not None:
        refusal = runner.committer.start_child(record, call, tool)
        if refusal is None:
            ask(lambda state: delegate(state, agent, number, now_ms()))
            runner.committer.visit(runner.store.load(record.id).record)  # the child may have been quicker
            return
        result, executed = error_result(refusal), True
    elif tool.effects == "once" and held.lease.attempt > 1:
        ask(lambda state: doubt(state, agent, number, now_ms()))
        return
    else:
        execution = _Execution(runner, held, call, f"{record.turn}:{step.call}")
        failpoint("before tool")
        result, executed = execution.execute(tool), True
        failpoint("after tool")
        updates = execution.buffer.drain()
    if held.cancel.reason == "lost":
        raise LeaseLostError

    def transition(state: RunState) -> Change:
        if state.record.abort is not None:
            finished = (number, _stored(result), executed) if result is not None else None
            return runner.aborted(state, finished=finished)
        if result is None and held.cancel.reason == "deadline":
            return fail(state, *TIME_IS_OVER, now_ms())
        if result is None:
            raise LeaseLostError
        return finish_tool(state, agent, number, _stored(result), now_ms(), executed=executed)

    runner.commit(held, transition, updates)


def _given_result(call: Call) -> ToolResult | None:
    """The result that an answer settles without execution; None where the tool is to be executed."""
    answer = call.answer or {}
    if "reject" in answer:
        return error_result(f"rejected: {answer['reject']['reason']}")
    if "result" in answer:
        given = answer["result"]
        return ToolResult(given["content"], given["isError"], given.get("details"))
    verdict = answer.get("verdict", {"verdict": "retry"})
    if verdict["verdict"] == "done":
        return to_result(verdict.get("result", ""))
    if verdict["verdict"] == "failed":
        return error_result(verdict.get("result", "the tool failed"))
    return None


def _stored(result: ToolResult) -> Json:
    stored: Json = {"content": result.content, "isError": result.is_error}
    if result.details is not None:
        stored["details"] = result.details
    return stored


class _Execution:
    """One execution of a tool, in a thread or on the event loop, so that it can be outlived."""

    def __init__(self, runner: StepRunner, held: Held, call: Call, place: str) -> None:
        self.buffer = runner.buffer(held)
        self._held = held
        self._call = call
        self._place = place

    def execute(self, tool: Tool) -> ToolResult | None:
        """The tool's result; None where the run is to end, or the step was lost, before it had one."""
        call, held = self._call, self._held
        if held.cancel.reason == "deadline":
            return None

        def update(partial: Any) -> None:
            dumps(partial)  # what is no JSON fails in the tool that gave it
            strictjson.check(partial)
            self.buffer.emit(ev.tool_execution_update(call.id, call.name, call.args, partial))

        ctx = ToolContext(
            run_id=held.lease.run_id,
            tool_call_id=call.id,
            idempotency_key=f"{held.lease.run_id}:{self._place}",
            attempt=held.lease.attempt,
            decision=(call.answer or {}).get("decision"),
            metadata=held.state.record.metadata,
            on_update=update,
            is_aborted=lambda: held.cancel.cancelled,
        )
        return self._wait(tool, ctx)

    def _wait(self, tool: Tool, ctx: ToolContext) -> ToolResult | None:
        done = threading.Event()
        outcome: list[ToolResult] = []
        forget = self._held.cancel.on_cancel(done.set)

        def finish(get: Callable[[], Any]) -> None:
            outcome.append(_outcome(tool, get))
            done.set()

        if tool.is_async:
            future = aio.submit(_await(tool, self._call.args, ctx))
            future.add_done_callback(lambda f: finish(f.result))
            stop: Callable[[], Any] = future.cancel
        else:
            threading.Thread(
                target=finish, args=(lambda: tool.call(self._call.args, ctx),), name=f"tool-{tool.name}", daemon=True
            ).start()
            stop = _nothing
        in_time = done.wait(tool.timeout)
        forget()
        if outcome:
            return outcome[0]
        if not in_time:
            stop()
            return error_result(f"the tool {tool.name!r} did not finish within {tool.timeout:g} seconds (its timeout)")
        done.clear()
        stop()
        if not outcome:
            done.wait(ABORT_GRACE_SECONDS)
        return outcome[0] if outcome else None


def _nothing() -> None:
    """A thread cannot be stopped: it sees `ctx.aborted`, and what it still returns is dropped."""


async def _await(tool: Tool, args: Json, ctx: ToolContext) -> Any:
    return await tool.call(args, ctx)


def _outcome(tool: Tool, get: Callable[[], Any]) -> ToolResult:
    try:
        return to_result(get())
    except (CancelledError, asyncio.CancelledError):
        return error_result("the tool was cancelled")
    except BaseException as error:
        log.warning("the tool %s raised %s", tool.name, type(error).__name__, exc_info=True)
        return error_result(_told(error))


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # its own __str__ fails
        return type(error).__name__
