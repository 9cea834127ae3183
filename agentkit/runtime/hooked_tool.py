"""One execution of a tool through the application's hooks (`Middleware.around_tool_call`)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from agentkit.core.calls import Call
from agentkit.core.struct import to_json
from agentkit.errors import ToolError
from agentkit.hooks import StepInfo, ToolCall
from agentkit.results import InputRequired, OutcomeUnknown, ToolResult, refusal_text, result_of
from agentkit.runtime.hooks import Chain, Hook
from agentkit.runtime.tool_loop import submit_tool
from agentkit.tools import Tool, ToolContext

__all__ = ["HookedExecution"]


class _NoResult(BaseException):
    """The execution ended without a result, which is no answer that hooks could look at; `value` says why."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class HookedExecution:
    """One execution: `execute` in a thread that may wait, `stop` by any other."""

    def __init__(self, hooks: Sequence[Hook], info: StepInfo, tool: Tool, ctx: ToolContext, call: Call) -> None:
        self._tool = tool
        self._ctx = ctx
        self._call = ToolCall(call.id, call.name, call.args, ctx.decision, tool)
        self._chain = Chain(hooks, info, self._execute, (ToolError,), _shaped)
        self._lock = threading.Lock()
        self._future: Future[Any] | None = None
        self._stopped = False

    def execute(self) -> Any:
        """Call the hooks, and return what they return, or why there is no result yet.

        Raises what the tool raised, ToolError, and HookError.
        """
        try:
            return self._chain.run(replace(self._call, arguments=to_json(self._call.arguments)))
        except _NoResult as ended:
            return ended.value

    def stop(self) -> None:
        """Cancel what is on the event loop; the rest sees `ctx.aborted`."""
        self._chain.stop()
        with self._lock:
            self._stopped = True
            future = self._future
        if future is not None:
            future.cancel()

    def _execute(self, call: ToolCall) -> ToolResult:
        """Execute the tool as a hook wants it; its result, as what the model would see."""
        tool, arguments = self._tool, call.arguments
        if arguments != self._call.arguments and (problems := tool.input_problems(arguments)):
            raise ToolError(refusal_text(problems))
        if tool.is_async:
            value = self._on_loop(call)
        else:
            value = tool.call(arguments, self._ctx)
        return _shaped(value)

    def _on_loop(self, call: ToolCall) -> Any:
        future = submit_tool(self._tool.name, lambda: self._tool.call(call.arguments, self._ctx))
        with self._lock:
            self._future = future
            stopped = self._stopped
        if stopped:
            future.cancel()
        return future.result()()


def _shaped(value: Any) -> ToolResult:
    """Return what a tool or a hook returned as the result that the model would see, its content as JSON.

    Raises _NoResult where it is none yet.
    """
    if isinstance(value, InputRequired | OutcomeUnknown):
        raise _NoResult(value)
    result = result_of(value)
    return ToolResult(to_json(result.content), result.is_error, result.details)
