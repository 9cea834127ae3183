"""The request that OpenAI's chat completions take, written for the server that is to read it.

What servers want differently is in `agentkit.providers.compat`. Pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from agentkit.core.messages import (
    AssistantMessage,
    AudioBlock,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    Json,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultMessage,
    UserMessage,
    text_of,
    tool_calls_of,
)
from agentkit.core.struct import to_json
from agentkit.providers.compat import OPENAI, Compat
from agentkit.providers.openai_calls import ECHOED
from agentkit.providers.openai_order import in_order
from agentkit.providers.protocol import ModelRequest, ToolSpec
from agentkit.providers.replay import prepare

__all__ = [
    "API",
    "MAX_TOKENS",
    "OF_TOOLS",
    "OUR_OPTIONS",
    "TIMEOUTS",
    "audio_format",
    "build_request",
    "cache_hints",
    "is_strict",
]

API = "openai-completions"
TIMEOUTS = ("connect_timeout", "read_timeout")
OUR_OPTIONS = (*TIMEOUTS, "compat")
"""Options that are ours and reach no vendor."""

OF_TOOLS = ("tool_choice", "parallel_tool_calls")
"""Options that are refused without tools."""

MAX_TOKENS = ("max_output_tokens", "max_tokens")
"""The names by which an agent may limit one answer."""


def build_request(request: ModelRequest, provider: str = "openai", compat: Compat = OPENAI) -> Json:
    """Write the body of POST /chat/completions, as `compat` wants it."""
    body: Json = {
        **_options(request, compat),
        "model": request.model,
        "messages": _messages(request, provider, compat),
        "stream": True,
    }
    if compat.stream_usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [{"type": "function", "function": _function(tool, compat)} for tool in request.tools]
    if not body.get("tools"):
        for name in OF_TOOLS:
            body.pop(name, None)
    return body


def _options(request: ModelRequest, compat: Compat) -> Json:
    options = cache_hints(request) if compat.cache_hints else {}
    for name, value in request.options.items():
        if name not in OUR_OPTIONS:
            options[_max_tokens_field(request.model, compat) if name in MAX_TOKENS else name] = value
    if compat.reasoning_effort != "reasoning_effort":
        effort = options.pop("reasoning_effort", None)
        if effort is not None and compat.reasoning_effort == "reasoning.effort":
            options["reasoning"] = {"effort": effort, **(options.get("reasoning") or {})}
    return options


_COMPLETION_TOKENS = re.compile(r"(^|/)(gpt-([5-9]|1\d)(?!\d)|o\d)")
"""Models of OpenAI, here or behind a gateway, that refuse `max_tokens`."""


def _max_tokens_field(model: str, compat: Compat) -> str:
    by_model = "max_completion_tokens" if _COMPLETION_TOKENS.search(model) else "max_tokens"
    return compat.max_tokens_field or by_model


def _function(tool: ToolSpec, compat: Compat) -> Json:
    function: Json = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    if compat.strict_tools and is_strict(tool.parameters):
        function["strict"] = True
    return function


_DATA = ("const", "default", "enum", "examples")


def is_strict(schema: Any) -> bool:
    """Whether all objects in a schema name all of their properties as required, and allow no others."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
            return False
    return all(is_strict(value) for key, value in schema.items() if key not in _DATA)


_LONG_RETENTION = re.compile(r"gpt-(4\.1|5(\.\d+)?(-codex(-\w+)?|-chat-latest)?)(-\d{4}-\d\d-\d\d)?")


def cache_hints(request: ModelRequest) -> Json:
    """OpenAI caches by itself, machine by machine: the key brings the calls of one conversation to the same.

    Kept for a day only by models that do that: others refuse the option.
    """
    marks = _cache_marks(request)
    if not marks:
        return {}
    first = next((message.content for message in request.messages if isinstance(message, UserMessage)), "")
    start = json.dumps([request.model, request.instructions, [tool.name for tool in request.tools], to_json(first)])
    hints: Json = {"prompt_cache_key": hashlib.sha256(start.encode()).hexdigest()[:32]}
    if "long" in marks and _LONG_RETENTION.fullmatch(request.model):
        hints["prompt_cache_retention"] = "24h"
    return hints


def _cache_marks(request: ModelRequest) -> set[str]:
    """Collect the marks anywhere in the request."""
    marks: set[str | None] = {request.cache, request.instructions_cache, *(tool.cache for tool in request.tools)}
    for message in request.messages:
        marks.add(message.cache)
        if not isinstance(message.content, str):
            marks |= {block.cache for block in message.content}
    return {mark for mark in marks if mark is not None}


def _messages(request: ModelRequest, provider: str, compat: Compat) -> list[Json]:
    written: list[Json] = []
    if request.instructions:
        written.append({"role": "system", "content": request.instructions})
    prepared = prepare(
        request.messages, api=API, provider=provider, model=request.model, id_pattern=compat.tool_call_id_pattern
    )
    media: list[ContentBlock] = []  # of the tool results before, which could not carry them
    for message in prepared:
        if media and not isinstance(message, ToolResultMessage):
            written.append({"role": "user", "content": _user_content(media)})
            media = []
        match message:
            case UserMessage():
                written.append({"role": "user", "content": _user_content(message.content)})
            case AssistantMessage():
                written += _assistant(message, request.model, compat)
            case ToolResultMessage():
                result, left_over = _tool_result(message, compat)
                written.append(result)
                media += left_over
    if media:
        written.append({"role": "user", "content": _user_content(media)})
    return in_order(written, request.model, compat)


def _assistant(message: AssistantMessage, model: str, compat: Compat) -> list[Json]:
    """Write the message; nothing where it has only thinking: no server takes a message without content and calls."""
    calls, text = tool_calls_of(message), text_of(message)
    if not (text or calls):
        return []
    thinking = "".join(block.thinking for block in message.content if isinstance(block, ThinkingBlock))
    written: Json = {"role": "assistant", "content": text or (None if compat.null_content else "")}
    data = (message.provider_data or {}) if compat.echo else {}
    if data.get("reasoning_details") and message.model == model:  # signed: another model would refuse it
        written["reasoning_details"] = data["reasoning_details"]
    elif compat.reasoning_field and (thinking or (calls and compat.reasoning_required)):
        written[compat.reasoning_field] = thinking
    if data.get("extra_content"):
        written["extra_content"] = data["extra_content"]
    if calls:
        written["tool_calls"] = [_call(call, compat) for call in calls]
        if compat.thought_signatures and _SIGNING.search(model):
            written["tool_calls"][0].setdefault("extra_content", _UNSIGNED)
    return [written]


_SIGNING = re.compile(r"gemini-([3-9]|\d\d)")
_UNSIGNED: Json = {"google": {"thought_signature": "skip_thought_signature_validator"}}
"""What Google documents for calls that another model made (ai.google.dev/gemini-api/docs/thought-signatures)."""


def _tool_result(message: ToolResultMessage, compat: Compat) -> tuple[Json, list[ContentBlock]]:
    """Write the tool message; return it and the images, documents and sound that it cannot carry."""
    media: list[ContentBlock] = [block for block in message.content if not isinstance(block, TextBlock)]
    content: str | list[Json] = text_of(message) or "(no output)"
    if media and compat.tool_result_images and all(isinstance(block, ImageBlock) for block in media):
        content, media = _user_content(message.content), []
    elif media and not text_of(message):
        content = f"(see the {'image' if isinstance(media[0], ImageBlock) else 'attachment'} below)"
    written: Json = {"role": "tool", "tool_call_id": message.tool_call_id, "content": content}
    if compat.tool_result_name:
        written["name"] = message.tool_name
    return written, media


def _call(call: ToolCallBlock, compat: Compat) -> Json:
    # Always the JSON of an object, also where the model wrote something else: some servers parse it again and fail.
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    beside = {key: value for key, value in (call.provider_data or {}).items() if compat.echo and key in ECHOED}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}, **beside}


def _user_content(content: str | list[ContentBlock]) -> str | list[Json]:
    if isinstance(content, str):
        return content
    if len(content) == 1 and isinstance(content[0], TextBlock):
        return content[0].text  # the shape that every server understands
    # Some servers refuse empty texts.
    blank = [isinstance(block, TextBlock) and not block.text.strip() for block in content]
    return [_content_part(block) for block, is_blank in zip(content, blank, strict=True) if not is_blank or all(blank)]


def _content_part(block: ContentBlock) -> Json:
    match block:
        case TextBlock(text):
            return {"type": "text", "text": text}
        case ImageBlock(data, mime_type, url=url):
            return {"type": "image_url", "image_url": {"url": url or f"data:{mime_type};base64,{data}"}}
        case DocumentBlock(data, mime_type, name):
            file = {"filename": name or "document.pdf", "file_data": f"data:{mime_type};base64,{data}"}
            return {"type": "file", "file": file}
        case AudioBlock(data, mime_type):
            return {"type": "input_audio", "input_audio": {"data": data, "format": audio_format(mime_type)}}


def audio_format(mime_type: str) -> str:
    """Return the vendor's name of a kind of sound: `wav` or `mp3`, or what another server may know."""
    kind = mime_type.partition(";")[0].rpartition("/")[2].removeprefix("x-").lower()
    return {"mpeg": "mp3", "wave": "wav"}.get(kind, kind)
