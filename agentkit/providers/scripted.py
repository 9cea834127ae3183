"""A model that answers from a script: for tests, demos and benchmarks. Deterministic, needs no network.

What it answers depends on the conversation alone, so a step that is executed again after a crash gets the same answer.
It must not keep state between calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import (
    AssistantBlock,
    AssistantMessage,
    Block,
    Json,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    Usage,
    UserMessage,
    text_of,
)
from agentkit.core.struct import check, to_json
from agentkit.errors import ConfigurationError, InvalidRequestError, ProviderError
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["ScriptedModel", "Scripts", "Turn"]

Turn = str | list[Json]
"""One answer: a text, or text, thinking and toolCall blocks. A toolCall may leave out its `id`."""

_CHARACTERS_PER_TOKEN = 4


class ScriptedModel:
    """A model and its own provider: `Agent(model=ScriptedModel(["hello"]))`.

    `turns`: the answers; `turns[n]` answers where n assistant messages follow the last user message. A turn is a text
    or a list of content blocks, say `[{"type": "toolCall", "name": "add", "arguments": {"a": 1}}]`. A function may
    stand in for the list: it is passed the conversation, messages as the protocol has them, and returns the turn.
    `chunk_size`: characters of a piece of text or arguments that streams; None: each is one piece. `delay`: seconds
    between pieces. `name`: the model is named `scripted:<name>`.

    Raises ConfigurationError for turns that are none, and for a chunk size or delay that cannot be.
    """

    provider_name = "scripted"
    api = "scripted"

    def __init__(
        self,
        turns: Sequence[Turn] | Callable[[list[Json]], Turn],
        chunk_size: int | None = None,
        delay: float = 0.0,
        *,
        name: str = "script",
    ) -> None:
        if chunk_size is not None and chunk_size < 1:
            raise ConfigurationError("chunk_size must be at least 1, or None for whole texts")
        if delay < 0:
            raise ConfigurationError("delay must not be negative")
        if isinstance(turns, str):
            raise ConfigurationError("turns must be a list of turns, not one text")
        self.name = "scripted"  # as a provider; as a model it is `model`
        self.model = name
        self._turns = turns if callable(turns) else [_checked(turn, f"turns[{i}]") for i, turn in enumerate(turns)]
        self._chunk_size = chunk_size
        self._delay = delay

    def __str__(self) -> str:
        return f"{self.provider_name}:{self.model}"

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Yield the turn's parts. Raises ProviderError where the script has no turn for this conversation."""
        blocks = self._turn(request.messages)
        for number, part in enumerate(self._parts(blocks, request.messages)):
            if cancel.cancelled or (number and self._delay and cancel.wait(self._delay)):
                return
            yield part
        if not cancel.cancelled:
            calls = any(isinstance(block, ToolCallBlock) for block in blocks)
            yield Finish("toolUse" if calls else "stop", _usage(request, blocks), self.model)

    def _turn(self, messages: Sequence[Message]) -> list[AssistantBlock]:
        if callable(self._turns):
            return _checked(self._turns(to_json(list(messages))), "the turn")
        number = _answers_since_user(messages)
        if number >= len(self._turns):
            raise ProviderError(
                f"{self} has {len(self._turns)} turns, and the conversation asks for turn {number + 1}: add one",
                vendor="scripted",
            )
        return self._turns[number]

    def _parts(self, blocks: Sequence[AssistantBlock], messages: Sequence[Message]) -> Iterator[Part]:
        answers = sum(isinstance(message, AssistantMessage) for message in messages)
        calls = 0
        for block in blocks:
            match block:
                case TextBlock():
                    yield from map(TextDelta, self._pieces(block.text))
                case ThinkingBlock():
                    yield from map(ThinkingDelta, self._pieces(block.thinking))
                    if block.signature is not None:
                        yield ThinkingDelta("", block.signature)
                case ToolCallBlock():
                    # The number of answers so far makes the id unique in a run, and the same in every attempt.
                    call_id = block.id or f"call_{answers}_{calls}"
                    for at, piece in enumerate(self._pieces(_arguments(block))):
                        yield ToolCallDelta(calls, "" if at else call_id, "" if at else block.name, piece)
                    calls += 1

    def _pieces(self, value: str) -> list[str]:
        size = self._chunk_size or len(value) or 1
        return [value[at : at + size] for at in range(0, len(value), size)]


class Scripts:
    """The provider of scripted models that are asked for by name. `scripted:echo` repeats the last user text."""

    name = "scripted"
    api = "scripted"

    def __init__(self) -> None:
        self._models = {"echo": ScriptedModel(_echo, name="echo")}

    def register(self, model: ScriptedModel) -> None:
        """Make `model` known as `scripted:<its name>` in this process."""
        self._models[model.model] = model

    def stream(self, request: ModelRequest, cancel: Cancellation) -> Iterator[Part]:
        """Yield the parts of the model that the request names. Raises ProviderError where it is not registered."""
        if request.model not in self._models:
            known = ", ".join(sorted(self._models))
            raise ProviderError(f"there is no scripted model {request.model!r}, only {known}", vendor="scripted")
        return self._models[request.model].stream(request, cancel)


def _echo(messages: list[Json]) -> Turn:
    last = next((message for message in reversed(messages) if message["role"] == "user"), None)
    return "" if last is None else text_of(check(last, UserMessage))


def _answers_since_user(messages: Sequence[Message]) -> int:
    count = 0
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            break
        count += isinstance(message, AssistantMessage)
    return count


def _checked(turn: Any, where: str) -> list[AssistantBlock]:
    """Read a turn as a user of ScriptedModel writes it. Raises ConfigurationError that names what is wrong."""
    if isinstance(turn, str):
        return [TextBlock(turn)]
    if not isinstance(turn, list) or not all(isinstance(block, dict) for block in turn):
        raise ConfigurationError(f"{where} must be a text or a list of content blocks")
    try:
        return check([{"id": "", **b} if b.get("type") == "toolCall" else b for b in turn], list[AssistantBlock], where)
    except InvalidRequestError as error:
        raise ConfigurationError(error.message) from error


def _arguments(call: ToolCallBlock) -> str:
    """Write the JSON text that the model writes. `raw_arguments` lets a script write what is no JSON."""
    return call.raw_arguments or json.dumps(call.arguments, ensure_ascii=False)


def _usage(request: ModelRequest, answer: Sequence[AssistantBlock]) -> Usage:
    prompt = len(request.instructions) + sum(_size(message.content) for message in request.messages)
    return Usage.of(input=_tokens(prompt), output=_tokens(_size(answer)))


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)


def _size(content: str | Sequence[Block]) -> int:
    """Count the characters of a message's content."""
    return len(content) if isinstance(content, str) else sum(map(_block_size, content))


def _block_size(block: Block) -> int:
    match block:
        case TextBlock():
            return len(block.text)
        case ThinkingBlock():
            return len(block.thinking)
        case ToolCallBlock(arguments=arguments):
            return len(str(arguments)) if arguments else 0
        case _:
            return 0
