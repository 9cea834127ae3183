"""Makes a conversation fit for the model that is to go on with it, whichever model wrote it.

Vendors agree on more than they document: ids are unique, results follow their calls at once and are complete, signed
thinking goes to nobody but its author. What only one vendor demands is its adapter's business. Pure: the messages that
it is passed stay as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import count

from msgspec.structs import replace

from agentkit.core.messages import (
    AssistantBlock,
    AssistantMessage,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultMessage,
    UserMessage,
)
from agentkit.errors import ConfigurationError
from agentkit.providers.names import vendor_of

__all__ = ["NO_RESULT", "prepare"]

NO_RESULT = "There is no result: the tool did not run to its end."
"""What a tool call without a result is answered with."""

_LEFT_OUT = ("error", "aborted")
_MAX_ID_LENGTH = 64


def prepare(
    messages: Sequence[Message], *, api: str, provider: str, model: str, id_pattern: str | None = None
) -> list[Message]:
    """Return the messages as `model` of `provider` may be sent them.

    - Assistant messages that failed or were aborted are left out, with the results of their calls.
    - What a vendor wants to see again (`provider_data`) stays for the `api` and `provider` of the message alone, and is
      left out for others.
    - Thinking of another model becomes text within `<thinking>` tags, without its signature; empty thinking of another
      model, blank text, and messages that have nothing else are left out.
    - Each tool call is followed at once by its result, in the calls' order; one is made up where there is none. Results
      that answer no call are left out.
    - Tool-call ids are unique. One that was used before, or that `id_pattern` (a regular expression for the whole id)
      does not allow, is replaced by one derived from it, in call and result alike. Messages added later change no id
      before them, so a vendor's cache still finds its prefix.

    `cache` marks stay. Raises ConfigurationError for an `id_pattern` that fits no id we can make.
    """
    results = _results(messages)
    ids = _Ids(id_pattern)
    prepared: list[Message] = []
    for at, message in enumerate(messages):
        if isinstance(message, UserMessage):
            prepared.append(message)
        elif isinstance(message, AssistantMessage) and message.stop_reason not in _LEFT_OUT:
            same_vendor = (message.api, vendor_of(message.provider)) == (api, vendor_of(provider))
            same_model = same_vendor and message.model == model
            if not same_vendor:
                message = _without_data(message)
            prepared += _turn(message, same_model, results.get(at, {}), ids)
    return prepared


def _results(messages: Sequence[Message]) -> dict[int, dict[int, ToolResultMessage]]:
    """Find the tool results by the index of the message and of the block of the call that each answers.

    An id means its latest call.
    """
    unanswered: dict[str, list[tuple[int, int]]] = {}
    results: dict[int, dict[int, ToolResultMessage]] = {}
    for at, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            calls: dict[str, list[tuple[int, int]]] = {}
            for index, block in enumerate(message.content):
                if isinstance(block, ToolCallBlock):
                    calls.setdefault(block.id, []).append((at, index))
            unanswered |= calls
        elif isinstance(message, ToolResultMessage) and unanswered.get(message.tool_call_id):
            caller, index = unanswered[message.tool_call_id].pop(0)
            results.setdefault(caller, {})[index] = message
    return results


def _without_data(message: AssistantMessage) -> AssistantMessage:
    return replace(
        message, content=[replace(block, provider_data=None) for block in message.content], provider_data=None
    )


def _turn(
    message: AssistantMessage, same_model: bool, results: dict[int, ToolResultMessage], ids: _Ids
) -> list[Message]:
    """Return the assistant message and the results of its calls; `results` are by the index of the call's block."""
    content: list[AssistantBlock] = []
    answers: list[Message] = []
    for index, block in enumerate(message.content):
        match block:
            case ToolCallBlock():
                call = replace(block, id=ids.take(block.id))
                content.append(call)
                answer = results.get(index) or ToolResultMessage(
                    call.id, call.name, [TextBlock(NO_RESULT)], is_error=True, timestamp=message.timestamp
                )
                answers.append(replace(answer, tool_call_id=call.id, tool_name=call.name))
            case ThinkingBlock() if not same_model:
                if block.thinking.strip():
                    content.append(TextBlock(f"<thinking>\n{block.thinking}\n</thinking>"))
            case ThinkingBlock():
                content.append(block)
            case TextBlock() if block.text.strip() or block.provider_data:
                content.append(block)
    return [replace(message, content=content), *answers] if content or message.provider_data else []


class _Ids:
    """Hands out the tool-call ids of one conversation, each once."""

    def __init__(self, pattern: str | None) -> None:
        self._pattern = re.compile(pattern or ".+", re.DOTALL)
        self._taken: set[str] = set()

    def take(self, id: str) -> str:
        """Return `id`, or one derived from it where it is taken or does not fit the pattern."""
        chosen = id if self._free(id) else self._derived(id)
        self._taken.add(chosen)
        return chosen

    def _derived(self, id: str) -> str:
        for attempt in count():
            digest = hashlib.sha256(f"{attempt} {id}".encode(errors="surrogatepass")).hexdigest()
            candidates = [f"call_{digest[:24]}", *(digest[:length] for length in range(_MAX_ID_LENGTH, 0, -1))]
            fitting = [candidate for candidate in candidates if self._pattern.fullmatch(candidate)]
            if not fitting:
                raise ConfigurationError(f"no tool-call id can be made that matches {self._pattern.pattern!r}")
            for candidate in fitting:
                if candidate not in self._taken:
                    return candidate
        raise AssertionError("count() does not end")

    def _free(self, id: str) -> bool:
        return id not in self._taken and self._pattern.fullmatch(id) is not None
