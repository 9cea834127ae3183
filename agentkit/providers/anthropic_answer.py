"""The answers of Anthropic's Messages API: events in, parts out.

Text, thinking and calls of our tools become parts. Whatever else an answer holds (the vendor's own tools and what they
found, citations, containers) goes out as the parts' `data`, in its order, for `agentkit.providers.anthropic_request` to
send back as it came:

- `before` of a block: the vendor's blocks between the block before it and this one.
- `citations` of a text; `caller` of a call, where the vendor's code execution made it.
- `signature` of thinking that its server does not sign: null where there was no such key, or "".
- `after` of the message: the vendor's blocks after the last block of ours. `container`: where its code was executed.

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from httpx_sse import ServerSentEvent

from agentkit.core.messages import Json, StopReason, Usage, add_usage
from agentkit.errors import ProviderError
from agentkit.providers.anthropic_request import REDACTED, THINKING
from agentkit.providers.counts import token_count
from agentkit.providers.decoding import decoded
from agentkit.providers.failures import stream_error, vendor_message
from agentkit.providers.json_events import json_objects
from agentkit.providers.protocol import BlockEnd, Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["EventDecoder", "decode"]

_LENGTH_REASONS = {"max_tokens", "model_context_window_exceeded", "pause_turn"}


def decode(events: Iterable[ServerSentEvent], vendor: str) -> Iterator[Part]:
    """Yield the parts of a whole event stream. Raises ProviderError for an error in it, and where it is cut short."""
    return decoded(events, EventDecoder(vendor))


@dataclass(slots=True)
class _Block:
    """A content block that is being sent. `value`: what goes back to the vendor. `number`: of a call of our tools."""

    value: Json
    number: int = -1
    pieces: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return _string(self.value, "type")

    @property
    def has_input(self) -> bool:
        return self.kind not in ("text", *THINKING)


class EventDecoder:
    """Turns the events of one answer into parts. `finish()` is due when there are no more events.

    An answer that the vendor has paused goes on in another stream: call `resume()`, and feed its events. Events and
    deltas of unknown types are passed over.
    """

    complete = False  # the end of the stream says when all was read

    def __init__(self, vendor: str = "anthropic") -> None:
        self._vendor = vendor
        self._model: str | None = None
        self._calls = 0
        self._content: list[Json] = []
        self._unsent: list[Json] = []
        self._container: Json | None = None
        self._usage_before = Usage.of()
        self._long_writes_before = 0
        self._begin()

    def _begin(self) -> None:
        self._usage: dict[str, int] = {}
        self._reason: str | None = None
        self._details: Json = {}
        self._stopped = False
        self._blocks: dict[int, _Block] = {}
        self._last = -1

    @property
    def paused(self) -> bool:
        """Whether the vendor has stopped in the middle of its own tools, to be asked to go on."""
        return self._reason == "pause_turn"

    @property
    def content(self) -> list[Json]:
        """The vendor's content blocks so far, as they have to be sent back for the answer to go on."""
        content = [block for block in self._content if block["type"] != "text" or _string(block, "text").strip()]
        while content and content[-1]["type"] in THINKING:
            content.pop()
        return content

    @property
    def container(self) -> Json | None:
        """Where the vendor has executed code: its `id` and when it ends."""
        return self._container

    def resume(self) -> None:
        """Prepare for the stream in which a paused answer goes on."""
        self._usage_before, self._long_writes_before = self.usage(), self._long_writes()
        self._begin()

    def read(self, event: ServerSentEvent) -> Iterator[Part]:
        """Yield the parts of one event."""
        for name, value in json_objects(event, self._vendor):
            if name == "error" and value.get("type") != "error":
                raise stream_error(self._vendor, value)
            yield from self.feed(value)

    def feed(self, event: Json) -> list[Part]:
        """Return the parts of one event. Raises ProviderError where it is an error."""
        try:
            match event.get("type"):
                case "message_start":
                    message = event.get("message") or {}
                    self._model = _string(message, "model") or None
                    self._keep_container(message)
                    self._count(message.get("usage") or {})
                case "content_block_start":
                    return self._start(event.get("content_block") or {}, event.get("index", self._last + 1))
                case "content_block_delta":
                    return self._delta(event.get("delta") or {}, event.get("index", self._last))
                case "content_block_stop":
                    return self._stop(event.get("index", self._last))
                case "message_delta":
                    self._end(event)
                case "message_stop":
                    self._stopped = True
                case "error":
                    raise self._failure(event)
        except (AttributeError, TypeError) as error:
            message = f"{self._vendor} sent an event of an unknown shape: {error}"
            raise ProviderError(message, vendor=self._vendor) from error
        return []

    def usage(self) -> Usage:
        """Return what the vendor has counted so far."""
        return add_usage(self._usage_before, _usage(self._usage))

    def finish(self) -> list[Part]:
        """Return the last parts. Raises ProviderError where the answer is not complete, or was refused."""
        if self._reason is None and not self._stopped:
            message = f"{self._vendor}: the stream ended before the answer was complete"
            raise ProviderError(message, retryable=True, vendor=self._vendor)
        if self._reason == "refusal":  # the vendor asks that the refused answer not stay in the conversation
            explanation = vendor_message(self._details.get("explanation") or self._details.get("category"))
            message = f"{self._vendor}: the model refused to answer" + (f": {explanation}" if explanation else "")
            raise ProviderError(f"{message} (change the request or use another model)", vendor=self._vendor)
        # As with other vendors, tool calls count more than the reason.
        whole: StopReason = "toolUse" if self._calls else "stop"
        reason: StopReason = "length" if self._reason in _LENGTH_REASONS else whole
        late = [part for at in list(self._blocks) for part in self._stop(at)]
        data: Json = {"after": list(self._unsent)} if self._unsent else {}
        if self._container and self.content:  # alone, it says nothing
            data["container"] = self._container
        return [*late, Finish(reason, self.usage(), self._model, data or None, self._long_writes())]

    # -- the message

    def _end(self, event: Json) -> None:
        delta = event.get("delta") or {}
        self._reason = delta.get("stop_reason") or self._reason
        details = delta.get("stop_details")
        self._details = details if isinstance(details, dict) else self._details
        self._keep_container(delta)
        self._count(event.get("usage") or {})

    def _keep_container(self, sender: Json) -> None:
        container = sender.get("container")
        if isinstance(container, dict) and _string(container, "id"):
            self._container = container

    def _count(self, usage: Json) -> None:
        # Anthropic counts in the first event and again in the last; gateways in either, with null or 0 in the other.
        for name, value in usage.items():
            if name == "cache_creation" and isinstance(value, dict):
                self._count(value)
            else:
                self._usage[name] = max(self._usage.get(name, 0), token_count(value))

    def _long_writes(self) -> int:
        written = self._usage.get("ephemeral_1h_input_tokens", 0)
        return self._long_writes_before + min(written, _usage(self._usage).cache_write)

    # -- its blocks

    def _start(self, sent: Json, at: int) -> list[Part]:
        kind = _string(sent, "type")
        # Some servers send no stop, or one index for all.
        over = [index for index, block in self._blocks.items() if index == at or block.kind != "tool_use"]
        parts = [part for index in over for part in self._stop(index)]
        if not kind:
            return parts
        self._last = at
        block = self._blocks[at] = _Block({name: value for name, value in sent.items() if value is not None})
        if not isinstance(sent.get("citations"), list):
            block.value.pop("citations", None)
        self._content.append(block.value)
        match kind:
            case "text":
                data, text = self._carried(), _string(sent, "text")
                parts += [TextDelta(text, data)] if text or data else []
            case "thinking":
                data, thinking = self._carried(), _string(sent, "thinking")
                parts += [ThinkingDelta(thinking, data=data)] if thinking or data else []
            case "redacted_thinking":
                parts.append(ThinkingDelta("", REDACTED + _string(sent, "data"), self._carried()))
            case "tool_use":
                block.number, self._calls = self._calls, self._calls + 1
                data = self._carried() or {}
                if sent.get("caller"):
                    data["caller"] = sent["caller"]
                parts.append(ToolCallDelta(block.number, _string(sent, "id"), _string(sent, "name"), data=data or None))
            case _:
                self._unsent.append(block.value)
        return parts

    def _carried(self) -> Json | None:
        """Return the data that carries the vendor's blocks before one of ours."""
        unsent, self._unsent = self._unsent, []
        return {"before": unsent} if unsent else None

    def _delta(self, delta: Json, at: int) -> list[Part]:
        kind = delta.get("type")
        parts: list[Part] = []
        if at not in self._blocks and kind in ("text_delta", "thinking_delta"):  # a server that sends no start
            parts = self._start({"type": kind.removesuffix("_delta")}, at)
        block = self._blocks.get(at)
        match kind, block and block.kind:
            case "text_delta", "text" if block and (text := _string(delta, "text")):
                block.pieces.append(text)
                parts.append(TextDelta(text))
            case "thinking_delta", "thinking" if block and (thinking := _string(delta, "thinking")):
                block.pieces.append(thinking)
                parts.append(ThinkingDelta(thinking))
            case "signature_delta", "thinking" if block:
                block.value["signature"] = _string(delta, "signature")
            case "citations_delta", "text" if block and isinstance(delta.get("citation"), dict):
                block.value.setdefault("citations", []).append(delta["citation"])
            case "input_json_delta", str() if block and block.has_input and (piece := _string(delta, "partial_json")):
                block.pieces.append(piece)
                if block.number >= 0:
                    parts.append(ToolCallDelta(block.number, arguments=piece))
            case "compaction_delta", "compaction" if block:
                block.value["content"] = delta.get("content")
        return parts

    def _stop(self, at: int) -> list[Part]:
        """Complete the block, if it is open, and return what is known of it only now."""
        block = self._blocks.pop(at, None)
        if block is None:
            return []
        value, sent = block.value, "".join(block.pieces)
        match block.kind:
            case "text":
                value["text"] = _string(value, "text") + sent
                citations = value.get("citations")
                cited: list[Part] = [TextDelta("", {"citations": citations})] if citations else []
                return [*cited, BlockEnd()]
            case "thinking":
                value["thinking"] = _string(value, "thinking") + sent
                if signature := _string(value, "signature"):
                    return [ThinkingDelta("", signature)]
                unsigned = {"signature": value.get("signature")}
                return [ThinkingDelta("", data=unsigned), BlockEnd()] if value["thinking"] else []
            case "tool_use" if not sent and value.get("input"):  # servers that send the arguments with the start
                return [ToolCallDelta(block.number, arguments=json.dumps(value["input"]))]
            case kind if sent and kind.endswith("tool_use"):
                value["input"] = _object(sent)
        return []

    def _failure(self, event: Json) -> ProviderError:
        error = stream_error(self._vendor, event.get("error") or event)
        error.request_id = _string(event, "request_id") or None
        return error


def _string(value: Json, key: str) -> str:
    """Return the text under a key; "" where there is none."""
    text = value.get(key)
    return text if isinstance(text, str) else ""


def _object(arguments: str) -> Json:
    """Parse arguments; where they are no JSON object, say because the answer was cut, there are none."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _usage(usage: dict[str, int]) -> Usage:
    written = usage.get("ephemeral_5m_input_tokens", 0) + usage.get("ephemeral_1h_input_tokens", 0)
    return Usage.of(
        input=usage.get("input_tokens", 0),  # without what was read from the cache or written to it
        output=usage.get("output_tokens", 0),
        cache_read=usage.get("cache_read_input_tokens", 0),
        cache_write=max(usage.get("cache_creation_input_tokens", 0), written),
    )
