"""Makes a conversation fit for the model that is to go on with it, whichever model wrote it.

Vendors agree on more than they say: ids are unique, results follow their calls at once and are
complete, signed thinking goes to nobody but its author. What only one vendor demands is its
adapter's business. Pure: what it is given stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import count
from typing import cast

from agentkit.core.messages import AssistantMessage, Block, Message, ToolResultMessage, text, tool_result_message
from agentkit.errors import ConfigurationError

__all__ = ["NO_RESULT", "prepare"]

NO_RESULT = "There is no result: the tool did not run to its end."
"""What a tool call without a result is answered with."""

_LEFT_OUT = ("error", "aborted")
_LONGEST_ID = 64


def prepare(
    messages: Sequence[Message], *, api: str, provider: str, model: str, id_pattern: str | None = None
) -> list[Message]:
    """The messages as `model` of `provider` may be sent them.

    - Assistant messages that failed or were aborted are left out, with the results of their calls.
    - Thinking of another model becomes text within `<thinking>` tags, without its signature; empty
      thinking of another model, blank text, and messages that have nothing else are left out.
    - Each tool call is followed at once by its result, in the calls' order; one is made up where
      there is none. Results that answer no call are left out.
    - Tool-call ids are unique. One that was used before, or that `id_pattern` (a regular expression
      for the whole id) does not allow, is replaced by one derived from it, in call and result alike.
      Messages added later change no id before them, so a vendor's cache still finds its prefix.

    `cache` marks stay. Raises ConfigurationError for an `id_pattern` that fits no id we can make.
    """
    results = _results(messages)
    ids = _Ids(id_pattern)
    sent: list[Message] = []
    for at, message in enumerate(messages):
        if message["role"] == "user":
            sent.append(message)
        elif message["role"] == "assistant" and message["stopReason"] not in _LEFT_OUT:
            own = (message["api"], message["provider"], message["model"]) == (api, provider, model)
            sent += _turn(message, own, results.get(at, {}), ids)
    return sent


def _results(messages: Sequence[Message]) -> dict[int, dict[int, ToolResultMessage]]:
    """The tool results by the message and the block of the call that each answers. An id means its latest call."""
    unanswered: dict[str, list[tuple[int, int]]] = {}
    results: dict[int, dict[int, ToolResultMessage]] = {}
    for at, message in enumerate(messages):
        if message["role"] == "assistant":
            asked: dict[str, list[tuple[int, int]]] = {}
            for place, block in enumerate(message["content"]):
                if block["type"] == "toolCall":
                    asked.setdefault(block["id"], []).append((at, place))
            unanswered |= asked
        elif message["role"] == "toolResult" and unanswered.get(message["toolCallId"]):
            owner, place = unanswered[message["toolCallId"]].pop(0)
            results.setdefault(owner, {})[place] = message
    return results


def _turn(message: AssistantMessage, own: bool, results: dict[int, ToolResultMessage], ids: _Ids) -> list[Message]:
    """The assistant message and the results of its calls."""
    content: list[Block] = []
    answers: list[Message] = []
    for place, block in enumerate(message["content"]):
        if block["type"] == "toolCall":
            call = {**block, "id": ids.take(block["id"])}
            content.append(call)
            answer = results.get(place) or tool_result_message(call, [text(NO_RESULT)], True, message["timestamp"])
            answers.append(cast(Message, {**answer, "toolCallId": call["id"], "toolName": call["name"]}))
        elif block["type"] == "thinking" and not own:
            if block["thinking"].strip():
                content.append(text(f"<thinking>\n{block['thinking']}\n</thinking>"))
        elif block["type"] != "text" or block["text"].strip():
            content.append(block)
    return [cast(Message, {**message, "content": content}), *answers] if content else []


class _Ids:
    """The tool-call ids of one conversation, each given out once."""

    def __init__(self, pattern: str | None) -> None:
        self._pattern = re.compile(pattern or ".+", re.DOTALL)
        self._taken: set[str] = set()

    def take(self, given: str) -> str:
        chosen = given if self._free(given) else self._derived(given)
        self._taken.add(chosen)
        return chosen

    def _derived(self, given: str) -> str:
        for attempt in count():
            digest = hashlib.sha256(f"{attempt} {given}".encode(errors="surrogatepass")).hexdigest()
            shapes = [f"call_{digest[:24]}", *(digest[:length] for length in range(_LONGEST_ID, 0, -1))]
            fitting = [shape for shape in shapes if self._pattern.fullmatch(shape)]
            if not fitting:
                raise ConfigurationError(f"no tool-call id can be made that matches {self._pattern.pattern!r}")
            for shape in fitting:
                if shape not in self._taken:
                    return shape
        raise AssertionError("count() does not end")

    def _free(self, given: str) -> bool:
        return given not in self._taken and self._pattern.fullmatch(given) is not None
