"""The requests of Anthropic's Messages API: a conversation and its cache marks in the vendor's shape.

What the vendor demands of a conversation beyond what all do (`agentkit.providers.replay`) only this module knows; each
rule is noted where it is met. What `agentkit.providers.anthropic_answer` has kept beside the blocks goes back in its
place. Pure, but for the time at which the vendor's containers end.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from agentkit.core.media import is_document_type
from agentkit.core.messages import (
    AssistantBlock,
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
from agentkit.providers.anthropic_options import vendor_options
from agentkit.providers.protocol import ModelRequest
from agentkit.providers.replay import prepare

__all__ = ["API", "REDACTED", "THINKING", "build_request", "continued"]

API = "anthropic-messages"
REDACTED = "redacted:"
"""Begins the signature of a thinking block that holds redacted thinking. A real one is base64: it has no colon."""

_ID = "[a-zA-Z0-9_-]{1,64}"
_IMAGE_TYPES = {"image/jpeg", "image/png", "image/gif", "image/webp"}
THINKING = ("thinking", "redacted_thinking")
_MAX_MARKS = 4


def build_request(request: ModelRequest, *, provider: str = "anthropic") -> Json:
    """Write the body of POST /v1/messages.

    Options go to the vendor as they are, but `max_output_tokens`, `stop`, `reasoning_effort`, `tool_choice` and
    `parallel_tool_calls` may be spelled as other vendors do, and the vendor's own `tools` join ours. Raises
    ProviderError for options that the vendor cannot take.
    """
    try:
        options = vendor_options(request)
    except (AttributeError, KeyError, TypeError) as error:
        raise ProviderError(f"the model options have a wrong shape: {error!r}", vendor=provider) from error
    messages = prepare(
        [_with_blocks_before_thinking(message) for message in request.messages],
        api=API,
        provider=provider,
        model=request.model,
        id_pattern=_ID,
    )
    body: Json = {**options, "model": request.model, "messages": _turns(messages), "stream": True}
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
    if container := _container(messages, options):
        body["container"] = container
    _place_marks(body, request.cache == "auto")
    return body


def continued(body: Json, content: Sequence[Json], container: Json | None) -> Json:
    """Return the request that has a paused answer go on: `body` with the answer's `content` so far at its end."""
    turns = list(body["messages"])
    before = list(turns.pop()["content"]) if turns and turns[-1]["role"] == "assistant" else []
    turns.append({"role": "assistant", "content": [*before, *content]})
    body = {**body, "messages": turns}
    if container:
        body["container"] = _in_container(container["id"], body.get("container"))
    return body


def _turns(messages: Sequence[Message]) -> list[Json]:
    """Write the conversation in the vendor's shape: user and assistant take turns, the user begins."""
    turns: list[Json] = []
    for role, blocks in _without_halves([(_role(message), _blocks(message)) for message in messages]):
        while role == "assistant" and blocks and blocks[-1]["type"] in THINKING:
            blocks.pop()  # thinking may not come last
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [{"type": "text", "text": "(The conversation begins.)"}]})
    return turns


def _role(message: Message) -> str:
    return "assistant" if isinstance(message, AssistantMessage) else "user"


def _began_without_thinking(turns: Sequence[Json]) -> bool:
    """Tell whether tools are being called in an answer that began without thinking, say another model's.

    Thinking with a budget cannot be turned on in the middle of such an answer.
    """
    firsts = [turn["content"][0]["type"] for turn in turns]
    inputs = [at for at, first in enumerate(firsts) if turns[at]["role"] == "user" and first != "tool_result"]
    answer = inputs[-1] + 1 if inputs else len(turns)
    return answer < len(turns) - 1 and firsts[answer] not in THINKING


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
        data = block.provider_data or {}
        blocks += _vendor_blocks(data, "before")
        match block:
            case ToolCallBlock():
                name = re.sub(r"[^a-zA-Z0-9_-]", "_", block.name)[:128] or "unknown"  # a model may have made one up
                call = {"type": "tool_use", "id": block.id, "name": name, "input": block.arguments}
                if "caller" in data:
                    call["caller"] = data["caller"]
                blocks.append(_marked(call, block.cache))
            case TextBlock() if block.text.strip():
                text = _text(block)
                if isinstance(data.get("citations"), list) and data["citations"]:
                    text["citations"] = data["citations"]
                blocks.append(text)
            case ThinkingBlock():
                blocks += _thinking(block, data)
    return [*blocks, *_vendor_blocks(message.provider_data or {}, "after")]


def _thinking(block: ThinkingBlock, data: Json) -> list[Json]:
    """Write thinking. Its vendor refuses it unsigned, unless it was whole so: a server that signs nothing wants it."""
    if block.signature:
        if block.signature.startswith(REDACTED):
            return [{"type": "redacted_thinking", "data": block.signature.removeprefix(REDACTED)}]
        return [{"type": "thinking", "thinking": block.thinking, "signature": block.signature}]
    if "signature" not in data:
        return []
    signature = {"signature": data["signature"]} if isinstance(data["signature"], str) else {}
    return [{"type": "thinking", "thinking": block.thinking, **signature}]


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
    kind = block.mime_type.partition(";")[0].strip().lower()
    if kind == "application/pdf":
        source = {"type": "base64", "media_type": kind, "data": block.data}
    elif is_document_type(kind):  # text, which the vendor takes as text alone
        text = base64.b64decode(block.data).decode(errors="replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        raise ProviderError(f"Anthropic's models take PDF and text as documents, not {block.mime_type}")
    document: Json = {"type": "document", "source": source}
    if block.name:
        document["title"] = block.name
    return _marked(document, block.cache)


# -- what the vendor's own tools left


def _vendor_blocks(data: Json, place: str) -> list[Json]:
    """Return copies of the vendor's blocks that stand beside one of ours."""
    blocks = data.get(place)
    if not isinstance(blocks, list):
        return []
    return [dict(block) for block in blocks if isinstance(block, dict) and isinstance(block.get("type"), str)]


def _with_blocks_before_thinking(message: Message) -> Message:
    """Keep the vendor's blocks apart from thinking: other models of the vendor take them, but not the thinking."""
    if not isinstance(message, AssistantMessage):
        return message
    content: list[AssistantBlock] = []
    for block in message.content:
        if isinstance(block, ThinkingBlock) and block.provider_data and "before" in block.provider_data:
            others = {name: value for name, value in block.provider_data.items() if name != "before"}
            content.append(TextBlock("", provider_data={"before": block.provider_data["before"]}))
            block = replace(block, provider_data=others or None)
        content.append(block)
    return replace(message, content=content)


def _without_halves(messages: list[tuple[str, list[Json]]]) -> list[tuple[str, list[Json]]]:
    """Leave out calls of the vendor's tools without their result, and results without their call: both are refused.

    A call waits for its result where the last answer calls tools of ours, too: it is executed once those are answered.
    """
    answered = {block["tool_use_id"] for _, blocks in messages for block in blocks if _is_result(block)}
    last = max((at for at, (role, _) in enumerate(messages) if role == "assistant"), default=-1)
    called: set[str] = set()
    whole = []
    for at, (role, blocks) in enumerate(messages):
        waits = at == last and any(block["type"] == "tool_use" for block in blocks)
        kept = []
        for block in blocks:
            if _is_call(block):
                if not waits and block["id"] not in answered:
                    continue
                called.add(block["id"])
            elif _is_result(block) and block["tool_use_id"] not in called:
                continue
            kept.append(block)
        whole.append((role, kept))
    return whole


def _is_call(block: Json) -> bool:
    return block["type"].endswith("_tool_use") and isinstance(block.get("id"), str)


def _is_result(block: Json) -> bool:
    return block["type"].endswith("_tool_result") and isinstance(block.get("tool_use_id"), str)


def _container(messages: Sequence[Message], options: Mapping[str, Any]) -> Any:
    """Return the container in which the vendor's tools last worked, if it is still there, in the vendor's shape."""
    chosen = options.get("container")
    if not options.get("tools"):
        return chosen
    for message in reversed(messages):
        data = message.provider_data if isinstance(message, AssistantMessage) else None
        container = (data or {}).get("container")
        if isinstance(container, dict) and isinstance(container.get("id"), str):
            return chosen if _ended(container.get("expires_at")) else _in_container(container["id"], chosen)
    return chosen


def _in_container(container_id: str, chosen: Any) -> Any:
    """Add a container's id to the container that the application chose, if any, which may name skills."""
    if isinstance(chosen, dict):
        return {"id": container_id, **chosen}
    return chosen or container_id


def _ended(expires_at: Any) -> bool:
    try:
        ends = datetime.fromisoformat(expires_at)
    except (TypeError, ValueError):
        return False
    return (ends if ends.tzinfo else ends.replace(tzinfo=UTC)) <= datetime.now(UTC)


# -- cache marks


def _marked(block: Json, mark: str | None) -> Json:
    if mark:
        block["cache"] = mark
    return block


def _last_markable(blocks: Sequence[Json]) -> Json | None:
    return next((block for block in reversed(blocks) if block["type"] not in THINKING), None)


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
