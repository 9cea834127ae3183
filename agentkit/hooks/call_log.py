"""Logging of model calls and tool calls, into a logger of the application's."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from agentkit.hooks.base import Middleware, ModelCall, StepInfo, ToolCall

__all__ = ["CallLog"]


class CallLog(Middleware):
    """Writes a line when a model or a tool is called, and one when it has answered or failed.

    `logger`: by default `agentkit.calls`. `content`: whether the lines hold what is asked and answered, as the fields
    `request` and `answer`; else ids, names and numbers alone.
    """

    def __init__(
        self, logger: logging.Logger | None = None, *, level: int = logging.INFO, content: bool = False
    ) -> None:
        self._log = logger or logging.getLogger("agentkit.calls")
        self._level = level
        self._content = content

    def around_model_call(self, ctx: StepInfo, request: ModelCall, call: Callable[..., Any]) -> Any:
        """Log a model call."""
        asked = request.messages if self._content else None
        return self._around(
            ctx, f"model {request.model}", asked, lambda: call(request), lambda answer: answer["content"]
        )

    def around_tool_call(self, ctx: StepInfo, call: ToolCall, execute: Callable[..., Any]) -> Any:
        """Log a tool call."""
        asked = call.arguments if self._content else None
        return self._around(ctx, f"tool {call.name}", asked, lambda: execute(call), lambda result: result.content)

    def _around(
        self, ctx: StepInfo, what: str, asked: Any, make: Callable[[], Any], content: Callable[[Any], Any]
    ) -> Any:
        fields = ctx.log_fields()
        self._log.log(
            self._level, "run %s, step %d: %s", ctx.run_id, ctx.step, what, extra={**fields, "request": asked}
        )
        began = time.monotonic()
        try:
            answer = make()
        except Exception as error:
            seconds = time.monotonic() - began
            text = "run %s, step %d: %s failed by a %s after %.3f s"
            values = (ctx.run_id, ctx.step, what, type(error).__name__, seconds)
            self._log.log(self._level, text, *values, extra={**fields, "seconds": round(seconds, 3)})
            raise
        seconds = time.monotonic() - began
        shown = {"seconds": round(seconds, 3), "answer": content(answer) if self._content else None}
        text = "run %s, step %d: %s answered after %.3f s"
        self._log.log(self._level, text, ctx.run_id, ctx.step, what, seconds, extra={**fields, **shown})
        return answer
