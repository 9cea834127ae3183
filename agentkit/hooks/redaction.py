"""Redaction: what matches patterns, or what a function replaces, is kept from models, people and the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from agentkit.core.messages import Json
from agentkit.errors import ConfigurationError, ToolError
from agentkit.hooks.base import Middleware, ModelCall, StepInfo, ToolCall
from agentkit.results import ToolResult

__all__ = ["Redaction"]

_WRITTEN = ("text", "thinking", "rawArguments")
"""The keys of content blocks whose texts people, models and tools wrote."""


class Redaction(Middleware):
    """Replaces in texts: of requests to models, of tools' results, and with `answers` of what models write.

    `patterns`: regular expressions; what they match becomes `replacement`. `function`: takes a text and returns the one
    to use, after the patterns. `answers`: whether models' answers are redacted, too, tool calls' arguments among them;
    then nothing of an answer is streamed until it is whole.

    Not redacted: what people send, where it is stored and shown; without `answers`, what models write; what a tool
    shows by `ctx.update`; images and documents; texts of errors, which `AgentKit(redact=…)` sees to, but for a
    ToolError's. An exception of `function` fails the call, so that nothing passes.
    """

    def __init__(
        self,
        patterns: Sequence[str | re.Pattern[str]] = (),
        *,
        function: Callable[[str], str] | None = None,
        replacement: str = "[redacted]",
        answers: bool = False,
    ) -> None:
        if isinstance(patterns, str):
            raise ConfigurationError("patterns is a list of regular expressions, not one text")
        try:
            self._patterns = [re.compile(each) for each in patterns]
        except (re.error, TypeError) as error:
            raise ConfigurationError(f"patterns: no regular expression: {error}") from error
        if not self._patterns and function is None:
            raise ConfigurationError("Redaction needs patterns, or a function")
        self._function = function
        self._replacement = replacement
        self.holds_answers = answers

    def redact(self, text: str) -> str:
        """Return a text as it may pass."""
        for pattern in self._patterns:
            text = pattern.sub(lambda _: self._replacement, text)
        return text if self._function is None else self._function(text)

    def around_model_call(self, ctx: StepInfo, request: ModelCall, call: Callable[..., Any]) -> Any:
        """Redact the instructions and messages of a request, and with `answers` the answer."""
        messages = [self._message(message) for message in request.messages]
        answer = call(replace(request, instructions=self.redact(request.instructions), messages=messages))
        return self._message(answer) if self.holds_answers else answer

    def around_tool_call(self, ctx: StepInfo, call: ToolCall, execute: Callable[..., Any]) -> Any:
        """Redact the result of a tool, its details included."""
        try:
            result: ToolResult = execute(call)
        except ToolError as error:
            raise ToolError(self.redact(error.message)) from error
        content = result.content if isinstance(result.content, str) else self._blocks(list(result.content))
        return ToolResult(content, result.is_error, self._values(result.details))

    def _message(self, message: Json) -> Json:
        content = message["content"]
        redacted = self.redact(content) if isinstance(content, str) else self._blocks(content)
        return {**message, "content": redacted}

    def _blocks(self, blocks: list[Any]) -> list[Any]:
        return [self._block(block) for block in blocks]

    def _block(self, block: Json) -> Json:
        changed = {name: self.redact(block[name]) for name in _WRITTEN if isinstance(block.get(name), str)}
        if isinstance(block.get("arguments"), dict):
            changed["arguments"] = self._values(block["arguments"])
        redacted = {**block, **changed}
        if redacted.get("thinking") != block.get("thinking"):
            redacted.pop("signature", None)  # it is that of what the model thought
            redacted.pop("providerData", None)
        return redacted

    def _values(self, value: Any) -> Any:
        match value:
            case str():
                return self.redact(value)
            case list():
                return [self._values(item) for item in value]
            case dict():
                return {self.redact(key): self._values(item) for key, item in value.items()}
        return value
