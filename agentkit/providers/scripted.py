"""A model that answers from a script: for tests, demos and benchmarks. Deterministic, needs no network.

What it answers depends on the conversation alone, so a step that runs again after a crash gets the
same answer. It must not keep state between calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import Block, Message, Usage, check_content, text, text_of, zero_usage
from agentkit.errors import ConfigurationError, InvalidRequestError, ProviderError
from agentkit.providers.protocol import Finish, ModelRequest, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["ScriptedModel", "Scripts", "Turn"]

Turn = str | list[Block]
"""One answer: a text, or text, thinking and toolCall blocks. A toolCall may leave out its `id`."""

_CHARACTERS_PER_TOKEN = 4


class ScriptedModel:
    """A model and its own provider: `Agent(model=ScriptedModel(["hello"]))`.

    `turns[n]` answers where n assistant messages follow the last user message; a function of the
    messages may stand in for the list. Texts and arguments stream in pieces of `chunk_size`
    characters (None: whole), `delay` seconds apart. The model is named `scripted:<name>`.
    """

    provider_name = "scripted"
    api = "scripted"

    def __init__(
        self,
        turns: Sequence[Turn] | Callable[[Sequence[Message]], Turn],
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
        """The turn's parts. Raises ProviderError where the script has no turn for this conversation."""
        turn = self._turn(request.messages)
        blocks = [text(turn)] if isinstance(turn, str) else turn
        for number, part in enumerate(self._parts(blocks, request.messages)):
            if cancel.cancelled or (number and self._delay and cancel.wait(self._delay)):
                return
            yield part
        if not cancel.cancelled:
            calls = any(block["type"] == "toolCall" for block in blocks)
            yield Finish("toolUse" if calls else "stop", _usage(request, blocks), self.model)

    def _turn(self, messages: Sequence[Message]) -> Turn:
        if callable(self._turns):
            return _checked(self._turns(messages), "the turn")
        number = _answers_since_user(messages)
        if number >= len(self._turns):
            raise ProviderError(
                f"{self} has {len(self._turns)} turns, and the conversation asks for turn {number + 1}: add one",
                vendor="scripted",
            )
        return self._turns[number]

    def _parts(self, blocks: list[Block], messages: Sequence[Message]) -> Iterator[Part]:
        answered = sum(message["role"] == "assistant" for message in messages)
        calls = 0
        for block in blocks:
            if block["type"] == "text":
                yield from map(TextDelta, self._pieces(block["text"]))
            elif block["type"] == "thinking":
                yield from map(ThinkingDelta, self._pieces(block["thinking"]))
                if "signature" in block:
                    yield ThinkingDelta("", block["signature"])
            else:
                # The number of answers so far makes the id unique in a run, and the same in every attempt.
                call_id = block.get("id") or f"call_{answered}_{calls}"
                for at, piece in enumerate(self._pieces(_arguments(block))):
                    yield ToolCallDelta(calls, "" if at else call_id, "" if at else block["name"], piece)
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
        if request.model not in self._models:
            known = ", ".join(sorted(self._models))
            raise ProviderError(f"there is no scripted model {request.model!r}, only {known}", vendor="scripted")
        return self._models[request.model].stream(request, cancel)


def _echo(messages: Sequence[Message]) -> Turn:
    return next((text_of(message) for message in reversed(messages) if message["role"] == "user"), "")


def _answers_since_user(messages: Sequence[Message]) -> int:
    count = 0
    for message in reversed(messages):
        if message["role"] == "user":
            break
        count += message["role"] == "assistant"
    return count


def _checked(turn: Any, where: str) -> Turn:
    if isinstance(turn, str):
        return turn
    if not isinstance(turn, list) or not all(isinstance(block, dict) for block in turn):
        raise ConfigurationError(f"{where} must be a text or a list of content blocks")
    try:
        check_content([{"id": "", **b} if b.get("type") == "toolCall" else b for b in turn], where, "assistant")
    except InvalidRequestError as error:
        raise ConfigurationError(error.message) from error
    return cast(Turn, turn)


def _arguments(block: Block) -> str:
    """The JSON text that the model writes. `rawArguments` lets a script write what is no JSON."""
    return cast(str, block.get("rawArguments") or json.dumps(block["arguments"], ensure_ascii=False))


def _usage(request: ModelRequest, answer: list[Block]) -> Usage:
    usage = zero_usage()
    sent = len(request.instructions) + sum(_size(message["content"]) for message in request.messages)
    usage["input"] = -(-sent // _CHARACTERS_PER_TOKEN)
    usage["output"] = -(-_size(answer) // _CHARACTERS_PER_TOKEN)
    usage["totalTokens"] = usage["input"] + usage["output"]
    return usage


def _size(content: str | list[Block]) -> int:
    if isinstance(content, str):
        return len(content)
    written = (block.get("text") or block.get("thinking") or block.get("arguments") or "" for block in content)
    return sum(len(part if isinstance(part, str) else str(part)) for part in written)
