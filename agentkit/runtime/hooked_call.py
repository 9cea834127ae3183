"""One try of a model call through the application's hooks (`Middleware.around_model_call`).

What the model writes streams into the log meanwhile, unless a hook has answers held. What hooks return is the answer:
where it is another than the one that was streamed, that is void, and the new one takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentkit.agents import BoundAgent
from agentkit.core.events import AssistantMessageEvent
from agentkit.core.messages import (
    AssistantMessage,
    Json,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    Usage,
    check_messages,
)
from agentkit.core.struct import check, to_json
from agentkit.errors import LeaseLostError, ProviderError, StoreError
from agentkit.hooks import ModelCall
from agentkit.providers.builder import MessageBuilder
from agentkit.providers.protocol import BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta, ToolSpec
from agentkit.runtime.hooks import Chain, HookError, hook_name
from agentkit.runtime.step_context import StepContext

__all__ = ["HookedCall", "Prompt"]

Emit = Callable[[Sequence[AssistantMessageEvent]], None]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked, whichever it is."""

    instructions: str
    messages: Sequence[Message]
    tools: Sequence[ToolSpec]
    options: Mapping[str, Any]


class Answer(Protocol):
    """The open message of a model step, and how it is made."""

    @property
    def builder(self) -> MessageBuilder: ...

    def ask(self, agent: BoundAgent, prompt: Prompt, emit: Emit) -> None: ...

    def emit(self, updates: Sequence[AssistantMessageEvent]) -> None: ...

    def discard(
        self,
        reason: str | None,
        agent: BoundAgent | None = None,
        *,
        failure: ProviderError | None = None,
        counts: bool = True,
    ) -> None: ...


class _Cut(BaseException):
    """The step is cut: hooks end, and nothing that they do counts."""


class HookedCall:
    """One try."""

    def __init__(self, context: StepContext, open_message: Answer) -> None:
        self._context = context
        self._open = open_message
        self._hooks = context.hooks.model_calls
        self._cancel = context.held.cancel
        self._holds = context.hooks.hold_answers
        self._held: list[AssistantMessageEvent] = []
        self._asked: BoundAgent | None = None
        """The agent with the model that was asked last."""
        self._has_answer = False
        self._failure: ProviderError | None = None
        self._log_error: Exception | None = None

    def answer(self, agent: BoundAgent, prompt: Prompt) -> None:
        """Have the hooks make the call, and feed the builder what they return.

        Raises ProviderError and what else the model's call failed by, and HookError.
        """
        request = ModelCall(
            agent.model_name, prompt.instructions, to_json(list(prompt.messages)), prompt.tools, prompt.options
        )
        passes = (ProviderError, LeaseLostError, StoreError)
        chain = Chain(self._hooks, self._context.info(), lambda call: self._ask(agent, call), passes, self._shaped)
        forget = self._cancel.on_cancel(chain.stop)
        is_taken = False
        try:
            returned = chain.run(request)
            if self._log_error is None and not self._cancel.cancelled:
                self._take(returned)
                is_taken = True
        except _Cut:
            pass
        finally:
            forget()
            if self._holds and not is_taken:
                self._open.discard(None)  # what nobody was to see yet, nobody sees
        if self._log_error is not None:  # whatever a hook made of it
            raise self._log_error

    def _ask(self, agent: BoundAgent, call: ModelCall) -> Json:
        """Ask the model that a hook names, and return its answer."""
        if self._cancel.cancelled:
            raise _Cut
        try:
            asked = agent
            if call.model != agent.model_name:
                asked = self._context.committer.agents.bind(agent.name, call.model)
            messages = check_messages(list(call.messages), self._context.now())
            prompt = Prompt(call.instructions, messages, call.tools, call.options)
        except Exception as error:
            raise HookError(f"what {hook_name(self._hooks[0])} asks") from error
        self._begin(asked, is_other=asked.model_name != (self._asked or agent).model_name)
        try:
            self._open.ask(asked, prompt, self._held.extend if self._holds else self._open.emit)
        except (LeaseLostError, StoreError) as error:
            self._log_error = error
            raise
        except ProviderError as error:
            self._failure = error
            raise
        if self._cancel.cancelled:
            raise _Cut
        self._has_answer = True
        return self._message()

    def _begin(self, asked: BoundAgent, *, is_other: bool) -> None:
        """Begin another answer, unless this is the first and its message is open already."""
        if self._asked is not None or is_other:
            reason = None if self._holds and not is_other else "a hook asks a model again, or another one"
            self._open.discard(reason, asked, failure=self._failure)
        self._asked, self._has_answer, self._failure = asked, False, None
        self._held.clear()

    def _shaped(self, returned: Any) -> Json:
        """Return what a hook returned as a message."""
        message: Json = to_json(_read(returned, self._context.now()))
        return message

    def _take(self, returned: Json) -> None:
        """Have what the hooks returned be the answer."""
        if self._has_answer and returned == self._message():
            self._open.emit(self._held)
            return
        message = check(returned, AssistantMessage)
        usage = self._open.builder.message().usage if self._has_answer else Usage.of()
        if self._asked is not None:
            reason = None if self._holds else "a hook answers otherwise"
            self._open.discard(reason, failure=self._failure, counts=not self._has_answer)
        for part in _parts(message, usage):
            self._open.emit(self._open.builder.feed(part))

    def _message(self) -> Json:
        message: Json = to_json(self._open.builder.message())
        return message


def _read(answer: Any, now: int) -> AssistantMessage:
    """Read what a hook returned. Raises InvalidRequestError, and TypeError for what is no answer."""
    if isinstance(answer, str):
        answer = [{"type": "text", "text": answer}]
    if isinstance(answer, list):
        answer = {"role": "assistant", "content": answer}
    if not isinstance(answer, dict):
        raise TypeError(f"an answer is a message, a text or a list of content blocks, not a {type(answer).__name__}")
    [message] = check_messages([answer], now)
    if not isinstance(message, AssistantMessage):
        raise TypeError(f"an answer is an assistant message, not one of the role {answer.get('role')!r:.40}")
    return message


def _parts(message: AssistantMessage, usage: Usage) -> Iterator[Part]:
    """Write a message as a provider would."""
    calls = 0
    for block in message.content:
        match block:
            case TextBlock():
                yield TextDelta(block.text, block.provider_data)
                yield BlockEnd()
            case ThinkingBlock():
                yield ThinkingDelta(block.thinking, block.signature, block.provider_data)
                yield BlockEnd()
            case ToolCallBlock():
                arguments = block.raw_arguments or json.dumps(block.arguments, ensure_ascii=False)
                yield ToolCallDelta(calls, block.id, block.name, arguments, block.provider_data)
                calls += 1
    yield Finish(message.stop_reason, usage, data=message.provider_data)
