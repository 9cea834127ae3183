"""Folds a provider's parts into the assistant message and the events that announce it.

The one place that knows when a content block starts and ends, whatever the vendor. Pure.
"""

from __future__ import annotations

from typing import Any, cast

from agentkit.core import strictjson
from agentkit.core.ids import new_id
from agentkit.core.messages import AssistantMessage, Block, Json, Usage, zero_usage
from agentkit.errors import ProviderError
from agentkit.providers.prices import priced
from agentkit.providers.protocol import Finish, Part, TextDelta, ThinkingDelta, ToolCallDelta

__all__ = ["MessageBuilder"]


class MessageBuilder:
    """Collects one assistant message.

    `feed(part)` returns the `assistantMessageEvent`s that the part gives rise to; `finish()` the
    ones that are still due. Text and thinking blocks stream one after the other; tool calls may
    interleave, each with its own content index, and all end when the message does.
    """

    def __init__(self, *, api: str, provider: str, model: str, timestamp: int) -> None:
        self._head = {"api": api, "provider": provider, "model": model}
        self._timestamp = timestamp
        self._blocks: list[Block] = []
        self._arguments: dict[int, str] = {}
        self._call_at: dict[int, int] = {}
        self._open: int | None = None
        self._finish: Finish | None = None

    @property
    def started(self) -> bool:
        """Whether there is any content."""
        return bool(self._blocks)

    @property
    def finished(self) -> bool:
        return self._finish is not None

    def feed(self, part: Part) -> list[Json]:
        match part:
            case TextDelta(text):
                return self._stream("text", text)
            case ThinkingDelta(thinking, signature):
                if not thinking and signature is None:
                    return []
                events = self._close() if self._is_signed() else []
                events += self._stream("thinking", thinking)
                if signature is not None and self._open is not None:
                    self._blocks[self._open]["signature"] = signature
                return events
            case ToolCallDelta():
                return self._tool_call(part)
            case Finish():
                self._finish = part
                return []

    def finish(self) -> list[Json]:
        """Close what is open: the last text or thinking block, then the tool calls in their order."""
        events = self._close()
        ids: set[str] = set()
        for at in sorted(self._arguments):
            block = self._blocks[at]
            self._settle_arguments(at, block)
            if not block["id"] or block["id"] in ids:
                block["id"] = f"call_{new_id()}"  # some servers send none or one twice, and results are matched by it
            ids.add(block["id"])
            events.append({"type": "toolcall_end", "contentIndex": at, "toolCall": dict(block)})
        self._arguments.clear()
        return events

    def message(self, *, stop_reason: str | None = None, error: str | None = None) -> AssistantMessage:
        """The message so far. Without `stop_reason`, the whole one: a provider that gave no Finish is at fault."""
        if stop_reason is None and self._finish is None:
            raise ProviderError("the response ended before it was complete", retryable=True)
        usage: Usage = zero_usage()
        if self._finish is not None:
            usage = priced(self._finish.usage, self._head["provider"], self._head["model"], self._finish.model)
        reason: str = stop_reason or cast(Finish, self._finish).stop_reason
        message: Json = {
            "role": "assistant",
            "content": [dict(block) for block in self._blocks],
            **self._head,
            "usage": usage,
            "stopReason": reason,
            "timestamp": self._timestamp,
        }
        if error is not None:
            message["errorMessage"] = error
        return cast(AssistantMessage, message)

    def start(self) -> AssistantMessage:
        """What `message_start` carries: the message before any content."""
        return cast(
            AssistantMessage,
            {
                "role": "assistant",
                "content": [],
                **self._head,
                "usage": zero_usage(),
                "stopReason": "stop",
                "timestamp": self._timestamp,
            },
        )

    def _open_type(self) -> str | None:
        return None if self._open is None else cast(str, self._blocks[self._open]["type"])

    def _is_signed(self) -> bool:
        return self._open is not None and "signature" in self._blocks[self._open]

    def _stream(self, kind: str, delta: str) -> list[Json]:
        events: list[Json] = []
        delta = _as_text(delta)
        if self._open_type() != kind:
            if not delta and kind == "text":
                return []
            events += self._close()
            self._blocks.append({"type": kind, kind: ""})
            self._open = len(self._blocks) - 1
            events.append({"type": f"{kind}_start", "contentIndex": self._open})
        if delta:
            at = cast(int, self._open)
            self._blocks[at][kind] += delta
            events.append({"type": f"{kind}_delta", "contentIndex": at, "delta": delta})
        return events

    def _close(self) -> list[Json]:
        if self._open is None:
            return []
        at, self._open = self._open, None
        return [{"type": f"{self._blocks[at]['type']}_end", "contentIndex": at}]

    def _tool_call(self, part: ToolCallDelta) -> list[Json]:
        events: list[Json] = []
        if part.index not in self._call_at:
            events += self._close()
            self._blocks.append({"type": "toolCall", "id": "", "name": "", "arguments": {}})
            at = self._call_at[part.index] = len(self._blocks) - 1
            self._arguments[at] = ""
            self._adopt(at, part)
            events.append({"type": "toolcall_start", "contentIndex": at, "toolCall": dict(self._blocks[at])})
        else:
            at = self._call_at[part.index]
            self._adopt(at, part)
        if part.arguments:
            self._arguments[at] += part.arguments
            events.append({"type": "toolcall_delta", "contentIndex": at, "delta": part.arguments})
        return events

    def _adopt(self, at: int, part: ToolCallDelta) -> None:
        block = self._blocks[at]
        block["id"] = block["id"] or _as_text(part.id)
        block["name"] = block["name"] or _as_text(part.name)

    def _settle_arguments(self, at: int, block: Block) -> None:
        raw = self._arguments[at]
        value = _parsed(raw)
        if isinstance(value, dict):
            block["arguments"] = value
        else:
            block["rawArguments"] = raw


def _as_text(given: str) -> str:
    """Half a surrogate pair is no text, and could be neither stored nor sent."""
    return given if given.isascii() else given.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _parsed(raw: str) -> Any:
    """The arguments that a model wrote; None where they are no JSON, or not such as could be sent on."""
    if raw.strip() in ("", "null"):
        return {}  # `null` is Groq's spelling of "no arguments"
    try:
        return strictjson.loads(raw)
    except ValueError:
        return None
