"""The requests of Anthropic's Messages API: a conversation, its cache marks and options in the vendor's shape.

What the vendor demands of a conversation beyond what all do (`agentkit.providers.replay`) only this module knows; each
rule is noted where it is met. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from agentkit.core.messages import (
    AssistantMessage,
    AudioBlock,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    Json,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    ToolResultMessage,
)
from agentkit.errors import ProviderError
from agentkit.providers.protocol import ModelRequest
from agentkit.providers.replay import prepare

__all__ = ["API", "REDACTED", "build_request"]

API = "anthropic-messages"
REDACTED = "redacted:"
"""Begins the signature of a thinking block that holds redacted thinking. A real one is base64: it has no colon."""

_ID = "[a-zA-Z0-9_-]{1,64}"
_IMAGE_TYPES = {"image/jpeg", "image/png", "image/gif", "image/webp"}
_THINKING = ("thinking", "redacted_thinking")
_MAX_MARKS = 4


def build_request(request: ModelRequest, *, provider: str = "anthropic") -> Json:
    """Write the body of POST /v1/messages.

    Options go to the vendor as they are, but `max_output_tokens`, `stop`, `reasoning_effort`, `tool_choice` and
    `parallel_tool_calls` may be spelled as other vendors do, and the vendor's own `tools` join ours. Raises
    ProviderError for options that the vendor cannot take.
    """
    try:
        options = _options(request)
    except (AttributeError, KeyError, TypeError) as error:
        raise ProviderError(f"the model options have a wrong shape: {error!r}", vendor=provider) from error
    body: Json = {**options, "model": request.model, "messages": _turns(request, provider), "stream": True}
    if request.instructions.strip():
        system: Json = {"type": "text", "text": request.instructions}
        body["system"] = [_marked(system, request.instructions_cache)]
    tools = [dict(tool) for tool in options.get("tools", ())]
    for tool in request.tools:
        definition = {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        tools.append(_marked(definition, tool.cache))
    if tools:
        body["tools"] = tools
    else:
        body.pop("tool_choice", None)  # refused without tools
    if (body.get("thinking") or {}).get("type") == "enabled" and _began_without_thinking(body["messages"]):
        del body["thinking"]
    _place_marks(body, request.cache == "auto")
    return body


def _turns(request: ModelRequest, provider: str) -> list[Json]:
    """Write the conversation in the vendor's shape: user and assistant take turns, the user begins."""
    turns: list[Json] = []
    for message in prepare(request.messages, api=API, provider=provider, model=request.model, id_pattern=_ID):
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        blocks = _blocks(message)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": "(The conversation begins.)"}]})
    return turns


def _began_without_thinking(turns: Sequence[Json]) -> bool:
    """Tell whether tools are being called in an answer that began without thinking, say another model's.

    Thinking with a budget cannot be turned on in the middle of such an answer.
    """
    firsts = [turn["content"][0]["type"] for turn in turns]
    inputs = [at for at, first in enumerate(firsts) if turns[at]["role"] == "user" and first != "tool_result"]
    answer = inputs[-1] + 1 if inputs else len(turns)
    return answer < len(turns) - 1 and firsts[answer] not in _THINKING


def _blocks(message: Message) -> list[Json]:
    """Write the vendor's blocks of one message, each with its `cache` mark, if any, still under that key."""
    if isinstance(message, AssistantMessage):
        blocks = _assistant_blocks(message)
    elif isinstance(message, ToolResultMessage):
        blocks = [_result(message)]
    else:
        blocks = _content_blocks(message.content)
    if message.cache and (last := _last_markable(blocks)):
        last.setdefault("cache", message.cache)
    return blocks


def _content_blocks(content: str | list[ContentBlock]) -> list[Json]:
    """Write user or tool content. Blank texts are left out: the vendor refuses them."""
    if isinstance(content, str):
        content = [TextBlock(content)]
    return [_content_block(block) for block in content if not isinstance(block, TextBlock) or block.text.strip()]


def _content_block(block: ContentBlock) -> Json:
    match block:
        case TextBlock():
            return _text(block)
        case ImageBlock():
            return _image(block)
        case DocumentBlock():
            return _document(block)
        case AudioBlock():
            raise ProviderError("Anthropic's models take no audio")


def _assistant_blocks(message: AssistantMessage) -> list[Json]:
    blocks: list[Json] = []
    for block in message.content:
        match block:
            case ToolCallBlock():
                name = re.sub(r"[^a-zA-Z0-9_-]", "_", block.name)[:128] or "unknown"  # a model may have made one up
                call = {"type": "tool_use", "id": block.id, "name": name, "input": block.arguments}
                blocks.append(_marked(call, block.cache))
            case TextBlock() if block.text.strip():
                blocks.append(_text(block))
            case ThinkingBlock(signature=signature) if signature:  # unsigned thinking is refused
                blocks.append(_thinking(block.thinking, signature))
    while blocks and blocks[-1]["type"] in _THINKING:
        blocks.pop()  # nor may thinking come last
    return blocks


def _thinking(thinking: str, signature: str) -> Json:
    if signature.startswith(REDACTED):
        return {"type": "redacted_thinking", "data": signature.removeprefix(REDACTED)}
    return {"type": "thinking", "thinking": thinking, "signature": signature}


def _result(message: ToolResultMessage) -> Json:
    content = _content_blocks(message.content) or [{"type": "text", "text": "(no output)"}]
    marks = [mark for block in content if (mark := block.pop("cache", None))]
    result: Json = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": content}
    if message.is_error:
        result["is_error"] = True
    return _marked(result, "long" if "long" in marks else "short" if marks else None)


def _text(block: TextBlock) -> Json:
    return _marked({"type": "text", "text": block.text}, block.cache)


def _image(block: ImageBlock) -> Json:
    if block.url is not None:
        return _marked({"type": "image", "source": {"type": "url", "url": block.url}}, block.cache)
    media_type = "image/jpeg" if block.mime_type == "image/jpg" else block.mime_type
    if media_type not in _IMAGE_TYPES:
        return _marked({"type": "text", "text": f"(an image of type {media_type}, not shown)"}, block.cache)
    source = {"type": "base64", "media_type": media_type, "data": block.data}
    return _marked({"type": "image", "source": source}, block.cache)


def _document(block: DocumentBlock) -> Json:
    source = {"type": "base64", "media_type": block.mime_type, "data": block.data}
    if block.mime_type.startswith("text/"):  # the vendor takes text documents as text alone
        text = base64.b64decode(block.data).decode(errors="replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    document: Json = {"type": "document", "source": source}
    if block.name:
        document["title"] = block.name
    return _marked(document, block.cache)


# -- cache marks


def _marked(block: Json, mark: str | None) -> Json:
    if mark:
        block["cache"] = mark
    return block


def _last_markable(blocks: Sequence[Json]) -> Json | None:
    return next((block for block in reversed(blocks) if block["type"] not in _THINKING), None)


def _place_marks(body: Json, auto: bool) -> None:
    """Turn each `cache` into the vendor's `cache_control`: the last four, in the order in which the vendor reads."""
    tools, system, turns = body.get("tools", []), body.get("system", []), body["messages"]
    if auto:
        ends = [*tools[-1:], *system[-1:], _last_markable(turns[-1]["content"]) if turns else None]
        for block in filter(None, ends):
            block.setdefault("cache", "short")
    blocks = [*tools, *(system if isinstance(system, list) else ()), *(b for turn in turns for b in turn["content"])]
    marks = [(block, block.pop("cache")) for block in blocks if "cache" in block]
    long = False
    for block, mark in reversed(marks[-_MAX_MARKS:]):
        long = long or mark == "long"  # a long mark after a short one is refused, so those before it become long
        block["cache_control"] = {"type": "ephemeral", "ttl": "1h"} if long else {"type": "ephemeral"}


# -- options

_OUR_OPTIONS = ("connect_timeout", "read_timeout", "betas", "compat")
_RENAMED = {"max_output_tokens": "max_tokens", "stop": "stop_sequences"}
_DEFAULT_MAX_TOKENS = [("claude-3-(opus|sonnet|haiku)", 4096), ("claude-([a-z]+-[0-9]|3-7)", 32_000), ("", 8192)]
"""Default `max_tokens`, which the vendor demands, by what a model's name has in it."""
_ADAPTIVE = re.compile(r"claude-[a-z]+-(4[-.]([6-9]|\d\d)(?!\d)|[5-9]|\d\d)")
"""Models that think by effort, from 4.6 on. The others think by a budget of tokens, which these soon refuse."""
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 24_576}
_MIN_BUDGET = 1024


def _options(request: ModelRequest) -> Json:
    options = {
        _RENAMED.get(name, name): value
        for name, value in request.options.items()
        if name not in _OUR_OPTIONS and value is not None
    }
    if isinstance(options.get("stop_sequences"), str):
        options["stop_sequences"] = [options["stop_sequences"]]
    if "tool_choice" in options:
        options["tool_choice"] = _tool_choice(options["tool_choice"])
    if options.pop("parallel_tool_calls", True) is False:
        choice = options.get("tool_choice") or {"type": "auto"}
        if choice.get("type") != "none":  # which takes no other keys
            options["tool_choice"] = {"disable_parallel_tool_use": True, **choice}
    default = next(tokens for pattern, tokens in _DEFAULT_MAX_TOKENS if re.search(pattern, request.model))
    effort = options.pop("reasoning_effort", None)
    if effort not in (None, "none") and "thinking" not in options:
        options |= _effort(request.model, effort, options.get("max_tokens"), options.get("output_config") or {})
    thinking = options.get("thinking") or {}
    budget = thinking.get("budget_tokens") or 0
    options.setdefault("max_tokens", default if budget < default else budget + 8192)  # the budget is part of it
    return options


def _effort(model: str, effort: str, max_tokens: int | None, output: Json) -> Json:
    """Return the options that make `model` think as hard as asked, but on no more than half of `max_tokens`.

    Raises ProviderError for an effort that is none.
    """
    if _ADAPTIVE.search(model):
        config = {"effort": "low" if effort == "minimal" else effort, **output}
        return {"thinking": {"type": "adaptive"}, "output_config": config}
    if effort not in _BUDGETS:
        raise ProviderError(f"reasoning_effort must be one of none, {', '.join(_BUDGETS)}, not {effort!r}")
    budget = _BUDGETS[effort] if max_tokens is None else min(_BUDGETS[effort], max_tokens // 2)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}} if budget >= _MIN_BUDGET else {}


def _tool_choice(choice: Any) -> Any:
    """Convert OpenAI's spelling: "auto", "none", "required", or a function by name. Anthropic's stays as it is."""
    if isinstance(choice, str):
        return {"type": "any" if choice == "required" else choice}
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "tool", "name": choice["function"]["name"]}
    return choice
