"""The message model: the same JSON on the wire and in the store, typed for the loop, the runtime and the providers.

What a caller gives (`kit.start(messages=…)`, a tool's content blocks, the body of a request) is checked here, and what
Python users are shown (`Run.messages`, a context hook's messages) are the wire's dictionaries. This module does not
know who stores, streams or sends a message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Literal

from agentkit.core.media import is_audio_type, is_document_type, is_image_type, is_web_url
from agentkit.core.struct import Json, Value, Wire, check, encode, half_surrogate, refusal
from agentkit.errors import InvalidRequestError

__all__ = [
    "AssistantBlock",
    "AssistantMessage",
    "AudioBlock",
    "Block",
    "Cache",
    "ContentBlock",
    "Cost",
    "DocumentBlock",
    "ImageBlock",
    "Json",
    "Message",
    "QueuedMessage",
    "StopReason",
    "TextBlock",
    "ThinkingBlock",
    "ToolCallBlock",
    "ToolResultMessage",
    "Usage",
    "UserMessage",
    "add_usage",
    "check_content",
    "check_history",
    "check_messages",
    "check_text",
    "check_tool_content",
    "content_bytes",
    "text_of",
    "text_of_json",
    "tool_calls_of",
]

StopReason = Literal["stop", "length", "toolUse", "error", "aborted"]
Cache = Literal["short", "long"]
"""A mark for the vendor's prompt cache: everything up to here, for minutes or for an hour."""


class TextBlock(Wire, tag_field="type", tag="text"):
    """Text. `provider_data`, of a model's answer: what its vendor wants to see again beside this block."""

    text: str
    cache: Cache | None = None
    provider_data: Json | None = None


class ImageBlock(Wire, tag_field="type", tag="image"):
    """An image: either `data`, which is base64, with its `mime_type`, or the `url` at which the vendor finds it."""

    data: str | None = None
    mime_type: str | None = None
    cache: Cache | None = None
    url: str | None = None


class DocumentBlock(Wire, tag_field="type", tag="document"):
    """A document, as a rule a PDF, or text; `data` is base64. `name`: its file name."""

    data: str
    mime_type: str
    name: str | None = None
    cache: Cache | None = None


class AudioBlock(Wire, tag_field="type", tag="audio"):
    """Sound; `data` is base64."""

    data: str
    mime_type: str
    cache: Cache | None = None


class ThinkingBlock(Wire, tag_field="type", tag="thinking"):
    """What a model thought. Where the vendor signs it, `signature` goes back to the model that signed."""

    thinking: str
    signature: str | None = None
    cache: Cache | None = None
    provider_data: Json | None = None


class ToolCallBlock(Wire, tag_field="type", tag="toolCall"):
    """A call of a tool. `raw_arguments` is there only where the model's text was not the JSON of an object."""

    id: str
    name: str
    arguments: Json
    raw_arguments: str | None = None
    cache: Cache | None = None
    provider_data: Json | None = None


ContentBlock = TextBlock | ImageBlock | DocumentBlock | AudioBlock
"""What a user message and a tool result may hold."""
AssistantBlock = TextBlock | ThinkingBlock | ToolCallBlock
Block = ContentBlock | ThinkingBlock | ToolCallBlock


class Cost(Wire):
    """US dollars. `total` is the sum of the other four."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    total: float

    @classmethod
    def of(cls, input: float = 0.0, output: float = 0.0, cache_read: float = 0.0, cache_write: float = 0.0) -> Cost:
        """Make a cost with its total."""
        return cls(input, output, cache_read, cache_write, input + output + cache_read + cache_write)


class Usage(Wire):
    """Tokens of one message or of a whole run. `input` excludes what was read from or written to a cache."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    total_tokens: int
    cost: Cost

    @classmethod
    def of(
        cls, input: int = 0, output: int = 0, cache_read: int = 0, cache_write: int = 0, cost: Cost | None = None
    ) -> Usage:
        """Make a usage with its total; without arguments, that of nothing."""
        return cls(input, output, cache_read, cache_write, input + output + cache_read + cache_write, cost or Cost.of())


class UserMessage(Wire, tag_field="role", tag="user"):
    content: str | list[ContentBlock]
    timestamp: int
    cache: Cache | None = None


class AssistantMessage(Wire, tag_field="role", tag="assistant"):
    """An answer. `provider_data`: what its vendor wants to see again and came with no single block."""

    content: list[AssistantBlock]
    api: str
    provider: str
    model: str
    usage: Usage
    stop_reason: StopReason
    timestamp: int
    error_message: str | None = None
    cache: Cache | None = None
    provider_data: Json | None = None


class ToolResultMessage(Wire, tag_field="role", tag="toolResult"):
    """`details` is JSON for clients alone: no model sees it."""

    tool_call_id: str
    tool_name: str
    content: list[ContentBlock]
    is_error: bool
    timestamp: int
    details: Any = None
    cache: Cache | None = None


Message = UserMessage | AssistantMessage | ToolResultMessage


class QueuedMessage(Value, frozen=True):
    """The content of a user message that was sent into a run and waits. `by`: who sent it, where somebody was named.

    A "steer" waits for the next turn, a "followUp" for the end of the run, which it puts off.
    """

    message: str | list[ContentBlock]
    when: Literal["steer", "followUp"]
    by: str | None = None


def add_usage(a: Usage, b: Usage) -> Usage:
    """Add two usages; totals are computed, not trusted."""
    return Usage.of(
        a.input + b.input,
        a.output + b.output,
        a.cache_read + b.cache_read,
        a.cache_write + b.cache_write,
        Cost.of(
            a.cost.input + b.cost.input,
            a.cost.output + b.cost.output,
            a.cost.cache_read + b.cost.cache_read,
            a.cost.cache_write + b.cost.cache_write,
        ),
    )


def content_bytes(content: str | list[ContentBlock]) -> int:
    """Count the bytes of a user message's content: of a text as UTF-8, of blocks as JSON."""
    return len(content.encode() if isinstance(content, str) else encode(content))


def text_of(message: Message) -> str:
    """Join all text of a message."""
    if isinstance(message.content, str):
        return message.content
    return "".join(block.text for block in message.content if isinstance(block, TextBlock))


def text_of_json(message: Json) -> str:
    """Join all text of a message as it is on the wire. Raises InvalidRequestError for what is no message."""
    read: Message = check(message, Message)
    return text_of(read)


def tool_calls_of(message: AssistantMessage) -> list[ToolCallBlock]:
    """List the tool calls of a message, in their order."""
    return [block for block in message.content if isinstance(block, ToolCallBlock)]


# -- what comes from outside


def check_content(content: Any, where: str = "input") -> str | list[ContentBlock]:
    """Read the content of a user message: text, or a list of content blocks.

    Raises InvalidRequestError that names what is wrong and where.
    """
    if isinstance(content, str) and not content.strip():
        raise InvalidRequestError(f"{where} is empty: give it text")
    if not isinstance(content, str | list) or not content:
        raise InvalidRequestError(f"{where} must be a string or a non-empty list of content blocks")
    checked: str | list[ContentBlock] = check(content, str | list[ContentBlock], where)
    check_text(checked, where)
    if not isinstance(checked, str):
        _check_media(checked, where)
        _check_types(checked, where)
    return checked


def check_tool_content(content: Any, where: str) -> list[ContentBlock]:
    """Read the content of a tool result: a list of content blocks. Raises InvalidRequestError.

    The types of documents and such are no reason to lose what a tool did: `providers.inputs` has what becomes of them.
    """
    checked = check(content, list[ContentBlock], where)
    _check_media(checked, where)
    return checked


def check_history(messages: Any, now: int) -> list[Message]:
    """Read a conversation that a caller gives, its missing timestamps, usages and such filled in.

    Its last message must be the user's. Tool results must answer a tool call that precedes them. `now`: milliseconds
    since the Unix epoch. Raises InvalidRequestError that names what is wrong and where.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidRequestError("messages must be a non-empty list of messages")
    checked = check_messages(messages, now)
    if not isinstance(checked[-1], UserMessage):
        raise InvalidRequestError("the last of messages must have the role 'user'")
    asked: set[str] = set()
    for index, message in enumerate(checked):
        if isinstance(message, AssistantMessage):
            asked |= {call.id for call in tool_calls_of(message)}
        elif isinstance(message, ToolResultMessage) and message.tool_call_id not in asked:
            raise InvalidRequestError(f"messages[{index}].toolCallId answers no tool call of a message before it")
    return checked


def check_messages(messages: Sequence[Any], now: int) -> list[Message]:
    """Read messages that a caller gives, in whatever order, their missing timestamps, usages and such filled in.

    `now`: milliseconds since the Unix epoch. Raises InvalidRequestError that names what is wrong and where.
    """
    return [_check_message(m, f"messages[{i}]", now) for i, m in enumerate(messages)]


_MOST = 10**15
"""Tokens or dollars of one message that a caller may claim."""
_USAGE = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 0}
_COST = {"input": 0.0, "output": 0.0, "cacheRead": 0.0, "cacheWrite": 0.0, "total": 0.0}


def _check_message(message: Any, where: str, now: int) -> Message:
    if not isinstance(message, dict):
        raise InvalidRequestError(f"{where} must be an object")
    filled: Json = {"timestamp": now, **message}
    if message.get("role") == "assistant":
        content = message.get("content")
        calls = isinstance(content, list) and any(isinstance(b, dict) and b.get("type") == "toolCall" for b in content)
        filled = {"api": "", "provider": "", "model": "", "stopReason": "toolUse" if calls else "stop", **filled}
        filled["usage"] = _filled_usage(message.get("usage", {}))
    elif message.get("role") == "toolResult":
        filled = {"isError": False, **filled}
    checked: Message = check(filled, Message, where)
    if isinstance(checked, UserMessage):
        check_content(filled["content"], f"{where}.content")
    elif isinstance(checked, ToolResultMessage):
        _check_media(checked.content, f"{where}.content")
    if isinstance(checked, AssistantMessage):
        checked.usage = _summed_usage(checked.usage, f"{where}.usage")
    check_text(checked, where)
    return checked


def _summed_usage(usage: Usage, where: str) -> Usage:
    """Return a caller's usage with its totals computed. Raises InvalidRequestError for a number out of range."""
    counts = {"input": usage.input, "output": usage.output, "cacheRead": usage.cache_read}
    counts |= {"cacheWrite": usage.cache_write, "totalTokens": usage.total_tokens}
    cost = usage.cost
    dollars = {"input": cost.input, "output": cost.output, "cacheRead": cost.cache_read, "cacheWrite": cost.cache_write}
    dollars["total"] = cost.total
    for name, value in [*counts.items(), *((f"cost.{name}", value) for name, value in dollars.items())]:
        if not 0 <= value <= _MOST:
            raise refusal(f"{where}.{name}", f"must be from 0 to {_MOST:.0e}")
    return add_usage(usage, Usage.of())


def check_text(value: Any, where: str) -> None:
    """Refuse half of a surrogate pair, which Python can hold and no JSON in UTF-8."""
    try:
        encode(value)
    except UnicodeEncodeError as error:
        raise half_surrogate(where) from error


def _filled_usage(usage: Any) -> Any:
    """Fill in what a caller's usage leaves out; what is no object is left for the check to refuse."""
    if not isinstance(usage, dict):
        return usage
    cost = usage.get("cost", {})
    return {**_USAGE, **usage, "cost": {**_COST, **cost} if isinstance(cost, dict) else cost}


def _check_media(blocks: list[ContentBlock], where: str) -> None:
    """Check what the shapes cannot say of images, documents and sound. Nothing is fetched: a URL is the vendor's."""
    for index, block in enumerate(blocks):
        if isinstance(block, TextBlock):
            continue
        place = f"{where}[{index}]"
        if isinstance(block, ImageBlock):
            _check_source(block, place)
        if block.data is not None:
            try:
                base64.b64decode(block.data, validate=True)
            except (binascii.Error, ValueError) as error:
                raise refusal(f"{place}.data", "must be base64") from error


def _check_source(image: ImageBlock, where: str) -> None:
    if (image.data is None) == (image.url is None):
        raise refusal(where, "must have either data, in base64, or url")
    if image.data is not None and image.mime_type is None:
        raise refusal(f"{where}.mimeType", "is missing: say image/png or what it is")
    if image.url is not None and not is_web_url(image.url):
        raise refusal(f"{where}.url", "must be an https:// or http:// URL")


_SHOWN_TYPE = 60


def _check_types(blocks: list[ContentBlock], where: str) -> None:
    """Check that the MIME type of each block is one of its kind, and that there is any data."""
    for index, block in enumerate(blocks):
        if isinstance(block, TextBlock):
            continue
        place = f"{where}[{index}]"
        if block.data is not None and not block.data:
            raise refusal(f"{place}.data", "is empty")
        if block.mime_type is None:
            continue
        match block:
            case DocumentBlock(mime_type=mime_type):
                fits, known = is_document_type(mime_type), "application/pdf, text/plain or another text/ type"
            case AudioBlock(mime_type=mime_type):
                fits, known = is_audio_type(mime_type), "audio/wav, audio/mpeg or what it is"
            case ImageBlock():
                fits, known = is_image_type(block.mime_type), "image/png, image/jpeg or what it is"
        if not fits:
            raise refusal(f"{place}.mimeType", f"must be {known}, not {block.mime_type[:_SHOWN_TYPE]!r}")
