"""Folds a provider's parts into the assistant message and the events that announce it.

The one place that knows when a content block starts and ends, whatever the vendor. Pure.
"""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from agentkit.core import strictjson
from agentkit.core.events import AssistantMessageEvent, UpdateType
from agentkit.core.ids import random_id
from agentkit.core.messages import (
    AssistantBlock,
    AssistantMessage,
    Json,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    Usage,
)
from agentkit.core.strictjson import SurrogateJoiner, without_half_surrogates
from agentkit.core.struct import decode, encode
from agentkit.errors import ProviderError
from agentkit.providers.counts import counted_usage
from agentkit.providers.prices import priced
from agentkit.providers.protocol import BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["MessageBuilder"]


class MessageBuilder:
    """Collects one assistant message.

    `feed(part)` returns the events that the part gives rise to; `finish()` the ones that are still due. Text and
    thinking blocks stream one after the other; tool calls may interleave, each with its own content index, and all end
    when the message does. What was returned stays as it is when the builder goes on.
    """

    def __init__(self, *, api: str, provider: str, model: str, timestamp: int) -> None:
        self._api = api
        self._provider = provider
        self._model = model
        self._timestamp = timestamp
        self._blocks: list[AssistantBlock] = []
        self._texts: list[list[str]] = []  # of each block: adding up as they come would copy a long text each time
        self._calls: dict[int, _OpenCall] = {}
        self._open: int | None = None
        self._joiner = SurrogateJoiner()
        self._finish: Finish | None = None
        self._failed_usage: Usage | None = None

    @property
    def started(self) -> bool:
        """Whether there is any content."""
        return bool(self._blocks)

    @property
    def empty(self) -> bool:
        """Whether there is nothing in the answer: no call, no word, and nothing that its vendor wants to see again."""
        if self._finish is not None and self._finish.data:
            return False
        return not any(
            isinstance(block, ToolCallBlock) or block.provider_data or "".join(pieces).strip()
            for block, pieces in zip(self._blocks, self._texts, strict=True)
        )

    @property
    def finished(self) -> bool:
        """Whether the provider's Finish has come."""
        return self._finish is not None

    def feed(self, part: Part) -> list[AssistantMessageEvent]:
        """Add a part; return the events that announce it."""
        match part:
            case TextDelta(text, data):
                return self._text(text, data)
            case ThinkingDelta(thinking, signature, data):
                return self._thinking(thinking, signature, data)
            case BlockEnd():
                return self._close()
            case ToolCallDelta():
                return self._tool_call(part)
            case Finish():
                self._finish = part
                return []

    def finish(self) -> list[AssistantMessageEvent]:
        """Close what is open, and return the events: the last text or thinking block, then the tool calls in order."""
        events = self._close()
        ids: set[str] = set()
        cut = self._finish is not None and self._finish.stop_reason == "length"
        for call in self._calls.values():
            call.settle(cut=cut and call.content_index == len(self._blocks) - 1)
            block = call.block
            if not block.id or block.id in ids:
                block.id = f"call_{random_id()}"  # some servers send none or one twice, and results are matched by it
            ids.add(block.id)
            events.append(AssistantMessageEvent("toolcall_end", call.content_index, tool_call=_shown(block)))
        self._calls.clear()
        return events

    def message(self, *, stop_reason: StopReason | None = None, error: str | None = None) -> AssistantMessage:
        """Return the message so far. `error`: its error message.

        Without `stop_reason`, it is the whole message: raises ProviderError where the provider gave no Finish.
        """
        if stop_reason is None and self._finish is None:
            raise ProviderError("the response ended before it was complete", retryable=True)
        message = self.start()
        if self._finish is not None:
            try:
                message.usage = self._finish_usage(self._finish)
            except Exception:
                if stop_reason is None:
                    raise
            message.stop_reason = self._finish.stop_reason
            message.provider_data = _clean(self._finish.data)
        elif self._failed_usage is not None:
            message.usage = self._failed_usage
        if stop_reason is not None:
            message.stop_reason = stop_reason
        message.content = [_whole(block, pieces) for block, pieces in zip(self._blocks, self._texts, strict=True)]
        message.error_message = None if error is None else without_half_surrogates(error)
        return message

    def fail(self, failure: ProviderError) -> None:
        """Have the message so far carry what the vendor had counted before the answer failed."""
        self._failed_usage = self.usage(failure)

    def usage(self, failure: ProviderError) -> Usage:
        """Return what the vendor had counted before the answer failed; nothing where it had not."""
        finish = self._finish
        try:
            if finish is not None:
                return self._finish_usage(finish)
            return Usage.of() if failure.usage is None else self._priced(failure.usage, None)
        except Exception:  # of another's provider, which gave what is no usage
            return Usage.of()

    def _finish_usage(self, finish: Finish) -> Usage:
        return self._priced(finish.usage, finish.model, finish.long_cache_write)

    def _priced(self, usage: Usage, answered_by: str | None, long_cache_write: int = 0) -> Usage:
        """Return a usage with its cost. Raises whatever what is no usage raises: another's provider may give that."""
        counted = counted_usage(decode(encode(usage), Usage))
        return priced(counted, self._provider, self._model, answered_by, long_cache_write=long_cache_write)

    def start(self) -> AssistantMessage:
        """Return what `message_start` carries: the message before any content."""
        return AssistantMessage(
            content=[],
            api=self._api,
            provider=self._provider,
            model=self._model,
            usage=Usage.of(),
            stop_reason="stop",
            timestamp=self._timestamp,
        )

    def _text(self, delta: str, data: Json | None) -> list[AssistantMessageEvent]:
        if not delta and not data:
            return []
        block, events = self._open_block(), []
        if not isinstance(block, TextBlock):
            block = TextBlock("")
            events = self._begin(block, "text_start")
        _add_data(block, data)
        return [*events, *self._append(block, self._joiner.feed(delta))]

    def _thinking(self, delta: str, signature: str | None, data: Json | None) -> list[AssistantMessageEvent]:
        if not delta and signature is None and not data:
            return []
        block, events = self._open_block(), []
        if not isinstance(block, ThinkingBlock) or block.signature is not None:
            block = ThinkingBlock("")
            events = self._begin(block, "thinking_start")
        events += self._append(block, self._joiner.feed(delta))
        _add_data(block, data)
        if signature is not None:
            block.signature = without_half_surrogates(signature)
        return events

    def _append(self, block: TextBlock | ThinkingBlock, delta: str) -> list[AssistantMessageEvent]:
        """Add text to the open block."""
        if not delta:
            return []
        self._texts[-1].append(delta)
        return [self._event("text_delta" if isinstance(block, TextBlock) else "thinking_delta", delta)]

    def _add(self, block: AssistantBlock) -> None:
        self._blocks.append(block)
        self._texts.append([])

    def _open_block(self) -> AssistantBlock | None:
        return None if self._open is None else self._blocks[self._open]

    def _begin(self, block: TextBlock | ThinkingBlock, start: UpdateType) -> list[AssistantMessageEvent]:
        """Close the open block and open `block`."""
        events = self._close()
        self._open = len(self._blocks)
        self._add(block)
        return [*events, self._event(start)]

    def _event(self, type: UpdateType, delta: str | None = None) -> AssistantMessageEvent:
        """Make an event of the open block."""
        assert self._open is not None
        return AssistantMessageEvent(type, self._open, delta)

    def _close(self) -> list[AssistantMessageEvent]:
        block = self._open_block()
        if not isinstance(block, TextBlock | ThinkingBlock):
            return []
        events = self._append(block, self._joiner.flush())
        events.append(self._event("text_end" if isinstance(block, TextBlock) else "thinking_end"))
        self._open = None
        return events

    def _tool_call(self, part: ToolCallDelta) -> list[AssistantMessageEvent]:
        events: list[AssistantMessageEvent] = []
        call = self._calls.get(part.index)
        if call is None:
            events = self._close()
            call = self._calls[part.index] = _OpenCall(len(self._blocks))
            self._add(call.block)
            arguments = call.add(part.id, part.name, part.arguments)
            events.append(AssistantMessageEvent("toolcall_start", call.content_index, tool_call=_shown(call.block)))
        else:
            arguments = call.add(part.id, part.name, part.arguments)
        _add_data(call.block, part.data)
        if arguments:
            events.append(AssistantMessageEvent("toolcall_delta", call.content_index, arguments))
        return events


class _OpenCall:
    """A tool call whose arguments still stream."""

    def __init__(self, content_index: int) -> None:
        self.content_index = content_index
        self.block = ToolCallBlock("", "", {})
        self._arguments: list[str] = []
        self._joiner = SurrogateJoiner()

    def add(self, id: str, name: str, arguments: str) -> str:
        """Add what a part brings, and return what it adds to the arguments.

        The first id counts. A name may come in pieces, or again, before the arguments do.
        """
        self.block.id = self.block.id or without_half_surrogates(id)
        if name and name != self.block.name and not any(self._arguments):
            self.block.name += without_half_surrogates(name)
        arguments = self._joiner.feed(arguments)
        self._arguments.append(arguments)
        return arguments

    def settle(self, *, cut: bool) -> None:
        """Set the block's arguments: those that the model wrote, or their text where it is no JSON object.

        `cut`: the answer was cut after this call, so that no arguments are not the same as none.
        """
        self._arguments.append(self._joiner.flush())
        written = "".join(self._arguments)
        arguments = None if cut and not written.strip() else _arguments(written, self._arguments)
        if arguments is not None:
            self.block.arguments = arguments
        else:
            self.block.raw_arguments = written


def _shown(block: ToolCallBlock) -> ToolCallBlock:
    """Return a copy for an event of the stream: the vendor's data comes with the message's end alone."""
    return replace(block, provider_data=None)


def _add_data(block: AssistantBlock, data: Json | None) -> None:
    if data:
        block.provider_data = {**(block.provider_data or {}), **(_clean(data) or {})}


def _clean(data: Json | None) -> Json | None:
    """Return the vendor's data such as the store can hold: half of a surrogate pair in it is replaced.

    Raises TypeError or ValueError for what is no JSON: another's provider may give that.
    """
    if not data:
        return None
    cleaned: Json = strictjson.loads(without_half_surrogates(json.dumps(data, ensure_ascii=False, allow_nan=False)))
    return cleaned


def _whole(block: AssistantBlock, pieces: list[str]) -> AssistantBlock:
    """Return a copy of a block, with the text that came for it."""
    whole = copy.copy(block)
    if isinstance(whole, TextBlock):
        whole.text = "".join(pieces)
    elif isinstance(whole, ThinkingBlock):
        whole.thinking = "".join(pieces)
    return whole


def _arguments(written: str, pieces: list[str]) -> Json | None:
    """Read the arguments of a call, also from servers that send them oddly where that leaves no doubt.

    As JSON in JSON, as `[]` for none, after an empty object, or again and again as far as they have come. None where
    they are no object.
    """
    value = _parsed(written)
    if isinstance(value, str):
        value = _parsed(value)
    if value == []:
        return {}
    if isinstance(value, dict):
        return value
    pieces = [piece for piece in pieces if piece.strip()]
    if len(pieces) > 1:
        rest = "".join(pieces[1:])
        repeated = all(later.startswith(earlier) for earlier, later in pairwise(pieces))
        if pieces[0].strip() in ("{}", "null"):
            value = _parsed(rest)
        elif repeated or pieces[-1] == "".join(pieces[:-1]):
            value = _parsed(pieces[-1])
    return value if isinstance(value, dict) else None


def _parsed(arguments: str) -> Any:
    """Parse the arguments that a model wrote; None where they are no JSON, or not such as could be sent on."""
    if arguments.strip() in ("", "null"):
        return {}  # `null` is Groq's spelling of "no arguments"
    try:
        return strictjson.loads(arguments)
    except ValueError:
        return None
