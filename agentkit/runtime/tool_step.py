"""The tool step: one tool call executed, or its answer carried out where nothing is to be executed."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

import msgspec

from agentkit.core.calls import Call, ItemAnswer
from agentkit.core.events import Event, ToolExecutionUpdate
from agentkit.core.record import Change, RunState
from agentkit.core.struct import encode, to_json
from agentkit.errors import ConfigurationError, LeaseLostError, ProviderError, ToolError
from agentkit.loop import (
    ask_client,
    ask_input,
    bounded,
    call_end,
    check_inquiry,
    delegate,
    delegated,
    doubt,
    fail,
    finish_tool,
    next_turn,
    park,
    result_message,
)
from agentkit.results import (
    CheckedResult,
    InputRequired,
    OutcomeUnknown,
    error_result,
    invalid_arguments,
    result_of,
    to_json_value,
    to_result,
)
from agentkit.runtime.deadlines import TIME_IS_OVER
from agentkit.runtime.failpoints import failpoint
from agentkit.runtime.hooked_tool import HookedExecution
from agentkit.runtime.hooks import HookError
from agentkit.runtime.step_context import StepContext
from agentkit.runtime.tool_loop import submit_tool
from agentkit.runtime.tool_threads import run_in_tool_thread
from agentkit.tools import Tool, ToolContext

__all__ = ["run_tool_step"]

log = logging.getLogger(__name__)

_Failure = tuple[BaseException | None, str | None]
"""What a tool raised, and the text of the error result; neither where it did not fail."""
_Outcome = CheckedResult | InputRequired | OutcomeUnknown


def run_tool_step(context: StepContext) -> None:
    """Give the step's call its result and commit it."""
    held, agent = context.held, context.agent
    call, number = held.call, held.lease.step
    assert call is not None
    answered = _answered_result(call)
    if answered is not None:
        _commit(context, call, answered, executed=False)
        return
    try:
        tool = agent.find_tool(call.name)
    except ProviderError as error:
        text = context.texts.of(error)
        if not error.retryable or not context.return_step(text):
            context.notes.exception, context.notes.error_text = error, text
            _commit(context, call, error_result(text))
        return
    if tool is None and call.answer is not None:
        reason = f"tool_not_registered: the worker has no tool {call.name!r}"
        context.commit(lambda state: park(state, number, context.now(), reason))
    elif tool is None:
        # The worker that admitted the call knew it: a newer one, or this agent has lost the tool since.
        if not context.return_step(f"agent {agent.agent.name!r} has no tool {call.name!r} here"):
            _commit(context, call, error_result(f"the tool {call.name!r} is not registered"))
    elif call.answer is not None and (problems := tool.input_problems(call.args)):
        # They were valid when the call was admitted: the tool has changed while the run waited.
        _commit(context, call, invalid_arguments(problems, agent.redact))
    elif tool.runs == "client":
        # Its decision was taken by a process that did not know it, or it has moved to the client since.
        context.commit(lambda state: ask_client(state, agent, number, context.now()))
    elif tool.agent is not None and call.child is None:
        _commit(context, call, error_result(f"the tool {call.name!r} has become a sub-agent since the call was made"))
    elif tool.agent is not None:
        _delegate(context, call, tool)
    elif tool.effects == "once" and held.lease.attempt > 1:
        context.notes.outcome = "in_doubt"
        context.commit(lambda state: doubt(state, agent, number, context.now()))
    else:
        execution = _Execution(context, call)
        failpoint("before tool")
        result = execution.execute(tool)
        failpoint("after tool")
        context.notes.exception, context.notes.error_text = execution.failure
        updates = execution.buffer.drain()
        if isinstance(result, CheckedResult | None):
            _commit(context, call, result, updates, finished_at=execution.finished_at)
        elif isinstance(result, InputRequired):
            _ask(context, tool, result, updates)
        else:
            context.notes.outcome = "in_doubt"
            log.warning("run %s: the outcome of step %s is not known: %s", held.lease.run_id, number, result.reason)
            context.commit(lambda state: doubt(state, agent, number, context.now()), updates)


def _ask(context: StepContext, tool: Tool, required: InputRequired, updates: Sequence[Event]) -> None:
    """Have the call wait for what its tool asks. What cannot be asked is an error result."""
    agent, call, number = context.agent, context.held.call, context.held.lease.step
    assert call is not None
    try:
        refusal = check_inquiry(call, required)
    except ConfigurationError as error:
        refusal = error.message
    if refusal is not None:
        _commit(context, call, error_result(f"the tool {tool.name!r} asked what it may not ask: {refusal}"), updates)
        return
    timeout = tool.decision_timeout
    context.commit(lambda state: ask_input(state, agent, number, required, timeout, context.now()), updates)


def _delegate(context: StepContext, call: Call, tool: Tool) -> None:
    """Have a sub-agent's run answer the call."""
    held, number, index = context.held, context.held.lease.step, context.step.call
    assert index is not None
    assert call.child is not None
    refusal = context.children.start(held.state.record, index, call, tool)
    if refusal is not None:
        _commit(context, call, error_result(refusal))
        return
    waiting, event = delegated(call)
    conflict = None if held.claim.complete else context.commit_call(waiting, [event])
    if held.claim.complete or conflict is not None:
        state = conflict.state if conflict else None
        context.commit(lambda state: delegate(state, context.agent, number, context.now()), state=state)
    # The child may have been quicker.
    context.children.reconcile_child(held.lease.run_id, index, call.child)


def _commit(
    context: StepContext,
    call: Call,
    result: CheckedResult | None,
    updates: Sequence[Event] = (),
    *,
    executed: bool = True,
    finished_at: int | None = None,
) -> None:
    """Commit what came of a call; `result` is None where the run is to end before it had one.

    `updates`: events that go before it. `executed`: its execution start is in the log. `finished_at`: when the tool had
    its result (ms), by default now.
    """
    held, agent, number = context.held, context.agent, context.held.lease.step
    if held.cancel.reason == "lost":
        raise LeaseLostError
    if result is not None and result.is_error and executed:
        context.notes.outcome = "error"
        context.notes.error_code = "tool_error"
    finished_at = context.now() if finished_at is None else finished_at
    message = None if result is None else result_message(call, result, finished_at)

    def transition(state: RunState) -> Change:
        if message is not None:
            return finish_tool(state, agent, number, message, context.now(), executed=executed)
        if held.cancel.reason == "deadline":
            return fail(state, *TIME_IS_OVER, context.now())
        raise LeaseLostError

    state: RunState | None = None
    if message is not None and not held.claim.complete:
        end = call_end(call, message, executed)
        is_last = context.side_by_side.ends_last(held.lease)
        follows = next_turn(held.state, agent, number, context.now()) if is_last else None
        conflict = context.commit_call(message, updates if end is None else [*updates, end], follows)
        if conflict is None:
            return
        state = conflict.state
    finished = None if message is None else (message, executed)
    context.commit(transition, updates, finished=finished, state=state)


def _answered_result(call: Call) -> CheckedResult | None:
    """The result that an answer settles without execution; None where the tool is to be executed."""
    answer = call.answer or ItemAnswer()
    if answer.reject is not None:
        return error_result(f"rejected: {answer.reject.reason}")
    if answer.result is not None:
        return CheckedResult(answer.result.content, answer.result.is_error, answer.result.details)
    if answer.verdict is not None and answer.verdict.verdict == "done":
        return to_result(answer.verdict.result or "")
    if answer.verdict is not None and answer.verdict.verdict == "failed":
        text = answer.verdict.result
        return error_result("the tool failed" if text is None else text)
    return None


class _Execution:
    """One execution of a tool, in a thread or on the event loop of tools, so that it can be outlived.

    `finished_at`: when it ended, by its result or without one (ms). `failure`: what the tool raised, and the text of
    its error result.
    """

    def __init__(self, context: StepContext, call: Call) -> None:
        self.finished_at: int | None = None
        self.failure: _Failure = (None, None)
        self.buffer = context.buffer()
        self._now = context.now
        self._held = context.held
        self._texts = context.texts
        self._most = context.agent.bounds.max_result_bytes
        # A copy: what a tool does to its arguments is not to be seen by the steps that follow in this process.
        self._call = msgspec.structs.replace(call, args=to_json(call.args))
        self._hooks = context.hooks
        self._info = context.info(call.name)
        self._inline = context.inline
        self._crash: Exception | None = None
        self._async_error: BaseException | None = None
        assert context.step.call is not None
        self._describe = partial(context.tool_context, index=context.step.call)

    def execute(self, tool: Tool) -> _Outcome | None:
        """The tool's result, or what it asks before it has one; None where the run is to end, or the step was lost."""
        call = self._call
        if self._held.cancel.cancelled:
            return None

        def update(partial: Any) -> None:
            partial = to_json_value(partial)  # what is no JSON fails in the tool that gave it
            size = len(encode(partial))
            if size > self._most:
                bound = f"{self._most} bytes (AGENTKIT_MAX_RESULT_BYTES)"
                raise ToolError(f"an update of the tool {call.name!r} of {size} bytes is over the bound of {bound}")
            self.buffer.emit(
                ToolExecutionUpdate(tool_call_id=call.id, tool_name=call.name, args=call.args, partial_result=partial)
            )

        inquiry, decision = call.inquiry, _decision(call.answer)
        ctx = self._describe(
            call_id=call.id,
            decision=_decision(inquiry.before) if inquiry else decision,
            memo=inquiry.memo if inquiry else None,
            reply=decision if inquiry else None,
            decided_by=call.decided_by,
            decided_at=call.decided_at,
            votes=call.votes,
            on_update=update,
        )
        return self._wait(tool, ctx)

    def _wait(self, tool: Tool, ctx: ToolContext) -> _Outcome | None:
        if not tool.is_async or self._hooks.tool_calls:
            return self._wait_for(tool, ctx)
        result: _Outcome | None = None
        try:
            with self._hooks.around(self._info):
                result = self._wait_for(tool, ctx)
                if self._async_error is not None:
                    raise self._async_error
        except BaseException as error:
            if error is not self._async_error:
                raise
        return result

    def _wait_for(self, tool: Tool, ctx: ToolContext) -> _Outcome | None:
        done, outlived = threading.Event(), threading.Event()
        outcome: list[tuple[_Outcome, _Failure]] = []
        errors: list[BaseException] = []
        forget = self._held.cancel.on_cancel(done.set)

        def finish(get: Callable[[], Any]) -> None:
            result, failure = self._outcome(tool, get)
            if outlived.is_set() or self._held.cancel.cancelled:  # cancelled, aware of the run's end, or too late
                self._log_dropped(tool, failure)
            else:
                outcome.append((result, failure))
            done.set()

        stop: Callable[[], Any] = _nothing
        execute: Callable[[], Any] = partial(tool.call, self._call.args, ctx)
        if self._hooks.tool_calls:
            hooked = HookedExecution(self._hooks.tool_calls, self._info, tool, ctx, self._call)
            execute, stop = hooked.execute, hooked.stop
        if tool.is_async and not self._hooks.tool_calls:
            future = submit_tool(tool.name, lambda: tool.call(self._call.args, ctx))
            future.add_done_callback(lambda f: finish(lambda: _noting_error(lambda: f.result()(), errors)))
            stop = future.cancel
        elif self._inline is not None and tool.timeout is None:
            contextvars.copy_context().run(finish, lambda: self._call_within(execute))
        else:
            run_in_tool_thread(f"tool-{tool.name}", lambda: finish(lambda: self._call_within(execute)))
        in_time = done.wait(tool.timeout)
        forget()
        if self._crash is not None and not self._held.cancel.cancelled:
            raise self._crash
        self.finished_at = self._now()
        if outcome:
            result, self.failure = outcome[0]
            self._async_error = errors[0] if errors else None
            return result
        outlived.set()
        stop()
        if in_time:  # by the end of its run, not by its own: what it still comes to is dropped, sync or async
            return None
        text = f"the tool {tool.name!r} did not finish within {tool.timeout:g} seconds (its timeout)"
        self.failure = (None, text)
        return error_result(text)

    def _call_within(self, execute: Callable[[], Any]) -> Any:
        """Execute a tool within what the application puts around it, by the thread that executes or awaits it."""
        tool_error: BaseException | None = None
        value = None
        try:
            with self._hooks.around(self._info):
                try:
                    value = execute()
                except BaseException as error:
                    tool_error = error
                    raise
        except BaseException as error:
            if error is not tool_error:
                self._crash = error if isinstance(error, Exception) else RuntimeError(f"around_step raised {error!r}")
        if isinstance(tool_error, HookError):  # a hook's own, which is not the tool's
            self._crash = tool_error.failure if isinstance(tool_error.failure, Exception) else tool_error
            return None
        if tool_error is not None:
            raise tool_error
        return value

    def _outcome(self, tool: Tool, get: Callable[[], Any]) -> tuple[_Outcome, _Failure]:
        failure: _Failure = (None, None)
        try:
            value = get()
            if isinstance(value, InputRequired | OutcomeUnknown):
                return value, failure
            result = result_of(value)
        except (CancelledError, asyncio.CancelledError) as error:
            text = "the tool was cancelled"
            return error_result(text), (error, text)
        except BaseException as error:
            if self._inline is not None:
                self._inline.on_tool_error(error)
            text = self._texts.of(error)
            result, failure = error_result(text), (error, text)
        return bounded(result, f"the tool {tool.name!r} was executed, but its result", self._most), failure

    def _log_dropped(self, tool: Tool, failure: _Failure) -> None:
        """Log what a tool raised whose run did not wait for it."""
        error, text = failure
        if error is not None and not isinstance(error, CancelledError | asyncio.CancelledError):
            run_id, step = self._held.lease.run_id, self._held.lease.step
            message = "tool %s of run %s, step %s, failed when nobody waited for it any more: %s"
            log.warning(message, tool.name, run_id, step, text, exc_info=error, extra=self._info.log_fields())


def _decision(answer: ItemAnswer | None) -> Any:
    return None if answer is None or answer.decision is msgspec.UNSET else to_json(answer.decision)


def _noting_error(call: Callable[[], Any], errors: list[BaseException]) -> Any:
    """Call, and add what it raises to `errors` before it is passed on."""
    try:
        return call()
    except BaseException as error:
        errors.append(error)
        raise


def _nothing() -> None:
    """A thread cannot be stopped: it sees `ctx.aborted`, and what it still returns is dropped."""
