"""The message model: the same JSON on the wire, in the store and in Python.

Messages are plain dictionaries with the wire's camelCase keys, typed below; nothing is converted on
the way in or out. This module must not know who stores, streams or sends them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict, cast

from agentkit.errors import InvalidRequestError

__all__ = [
    "AssistantMessage",
    "Block",
    "Cost",
    "Json",
    "Message",
    "StopReason",
    "ToolCallBlock",
    "ToolResultMessage",
    "Usage",
    "UserMessage",
    "add_usage",
    "check_content",
    "check_history",
    "image",
    "text",
    "text_of",
    "tool_calls_of",
    "tool_result_message",
    "user_message",
    "zero_usage",
]

Json = dict[str, Any]
StopReason = Literal["stop", "length", "toolUse", "error", "aborted"]

Block = Json
"""A content block: text, image, thinking or toolCall, told apart by `type`."""


class Cost(TypedDict):
    """US dollars. `total` is the sum of the other four."""

    input: float
    output: float
    cacheRead: float
    cacheWrite: float
    total: float


class Usage(TypedDict):
    """Tokens of one message or of a whole run. `input` excludes what was read from or written to a cache."""

    input: int
    output: int
    cacheRead: int
    cacheWrite: int
    totalTokens: int
    cost: Cost


class UserMessage(TypedDict):
    role: Literal["user"]
    content: str | list[Block]
    timestamp: int
    cache: NotRequired[Literal["short", "long"]]


class AssistantMessage(TypedDict):
    role: Literal["assistant"]
    content: list[Block]
    api: str
    provider: str
    model: str
    usage: Usage
    stopReason: StopReason
    timestamp: int
    errorMessage: NotRequired[str]


class ToolResultMessage(TypedDict):
    role: Literal["toolResult"]
    toolCallId: str
    toolName: str
    content: list[Block]
    isError: bool
    timestamp: int
    details: NotRequired[Any]


class ToolCallBlock(TypedDict):
    """`rawArguments` is there only where the model's text was not the JSON of an object."""

    type: Literal["toolCall"]
    id: str
    name: str
    arguments: Json
    rawArguments: NotRequired[str]


Message = UserMessage | AssistantMessage | ToolResultMessage


def text(value: str) -> Block:
    return {"type": "text", "text": value}


def image(data: str, mime_type: str) -> Block:
    """An image block. `data` is base64."""
    return {"type": "image", "data": data, "mimeType": mime_type}


def zero_usage() -> Usage:
    return {
        "input": 0,
        "output": 0,
        "cacheRead": 0,
        "cacheWrite": 0,
        "totalTokens": 0,
        "cost": {"input": 0.0, "output": 0.0, "cacheRead": 0.0, "cacheWrite": 0.0, "total": 0.0},
    }


def add_usage(a: Usage, b: Usage) -> Usage:
    """The sum of two usages; totals are computed, not trusted."""
    counts = {k: a[k] + b[k] for k in ("input", "output", "cacheRead", "cacheWrite")}
    costs = {k: a["cost"][k] + b["cost"][k] for k in ("input", "output", "cacheRead", "cacheWrite")}
    return cast(
        Usage,
        {
            **counts,
            "totalTokens": sum(counts.values()),
            "cost": {**costs, "total": sum(costs.values())},
        },
    )


def user_message(content: str | list[Block], timestamp: int) -> UserMessage:
    return {"role": "user", "content": content, "timestamp": timestamp}


def tool_result_message(
    call: Mapping[str, Any], content: list[Block], is_error: bool, timestamp: int, details: Any = None
) -> ToolResultMessage:
    """The result of `call` (anything with `id` and `name`)."""
    message: ToolResultMessage = {
        "role": "toolResult",
        "toolCallId": call["id"],
        "toolName": call["name"],
        "content": content,
        "isError": is_error,
        "timestamp": timestamp,
    }
    if details is not None:
        message["details"] = details
    return message


def text_of(message: Message) -> str:
    """All text of a message, its text blocks joined."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block["type"] == "text")


def tool_calls_of(message: AssistantMessage) -> list[ToolCallBlock]:
    return [cast(ToolCallBlock, block) for block in message["content"] if block["type"] == "toolCall"]


# -- what comes from outside -----------------------------------------------------------------------

_BLOCK_KEYS: dict[str, dict[str, type]] = {
    "text": {"text": str},
    "image": {"data": str, "mimeType": str},
    "thinking": {"thinking": str},
    "toolCall": {"id": str, "name": str, "arguments": dict},
}
_OPTIONAL_BLOCK_KEYS: dict[str, dict[str, type]] = {
    "thinking": {"signature": str},
    "toolCall": {"rawArguments": str},
}
_BLOCKS_OF = {
    "user": ("text", "image"),
    "toolResult": ("text", "image"),
    "assistant": ("text", "thinking", "toolCall"),
}


def check_content(content: Any, where: str = "input", role: str = "user") -> str | list[Block]:
    """The content of a message of `role`, or InvalidRequestError naming what is wrong and where."""
    if isinstance(content, str) and role == "user":
        if not content.strip():
            raise InvalidRequestError(f"{where} is empty: give it text")
        return content
    if not isinstance(content, list) or (role == "user" and not content):
        wanted = "a string or a non-empty list" if role == "user" else "a list"
        raise InvalidRequestError(f"{where} must be {wanted} of content blocks")
    for index, block in enumerate(content):
        _check_block(block, f"{where}[{index}]", _BLOCKS_OF[role])
    return content


def check_history(messages: Any, now: int) -> list[Message]:
    """A conversation given by a caller, its missing timestamps, usages and such filled in.

    Its last message must be the user's. Tool results must answer a tool call that precedes them.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidRequestError("messages must be a non-empty list of messages")
    checked = [_check_message(m, f"messages[{i}]", now) for i, m in enumerate(messages)]
    if checked[-1]["role"] != "user":
        raise InvalidRequestError("the last of messages must have the role 'user'")
    asked: set[str] = set()
    for index, message in enumerate(checked):
        if message["role"] == "assistant":
            asked |= {call["id"] for call in tool_calls_of(message)}
        elif message["role"] == "toolResult" and message["toolCallId"] not in asked:
            raise InvalidRequestError(f"messages[{index}].toolCallId answers no tool call of a message before it")
    return checked


_MESSAGE_KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    "user": {},
    "assistant": {
        "api": (str,),
        "provider": (str,),
        "model": (str,),
        "usage": (dict,),
        "stopReason": (str,),
        "errorMessage": (str,),
    },
    "toolResult": {"toolCallId": (str,), "toolName": (str,), "isError": (bool,), "details": (object,)},
}
_COMMON_KEYS: dict[str, tuple[type, ...]] = {
    "role": (str,),
    "content": (object,),
    "timestamp": (int,),
    "cache": (str,),
}


def _check_message(message: Any, where: str, now: int) -> Message:
    if not isinstance(message, dict):
        raise InvalidRequestError(f"{where} must be an object")
    role = message.get("role")
    if not isinstance(role, str) or role not in _MESSAGE_KEYS:
        raise InvalidRequestError(f"{where}.role must be 'user', 'assistant' or 'toolResult'")
    allowed = {**_COMMON_KEYS, **_MESSAGE_KEYS[role]}
    for key, value in message.items():
        if key not in allowed:
            raise InvalidRequestError(f"{where} has the unknown field {key!r}")
        if not isinstance(value, allowed[key]):
            raise InvalidRequestError(f"{where}.{key} has the wrong type")
    _check_cache(message, where)
    result: Json = {**message, "content": check_content(message.get("content"), f"{where}.content", role)}
    result.setdefault("timestamp", now)
    if role == "assistant":
        for key in ("api", "provider", "model"):
            result.setdefault(key, "")
        result["usage"] = _check_usage(message.get("usage", zero_usage()), f"{where}.usage")
        result.setdefault("stopReason", "toolUse" if tool_calls_of(cast(Any, result)) else "stop")
        if result["stopReason"] not in ("stop", "length", "toolUse", "error", "aborted"):
            raise InvalidRequestError(f"{where}.stopReason is none of the stop reasons")
    if role == "toolResult":
        for key in ("toolCallId", "toolName"):
            if key not in result:
                raise InvalidRequestError(f"{where}.{key} is missing")
        result.setdefault("isError", False)
    return cast(Message, result)


def _check_block(block: Any, where: str, types: Sequence[str]) -> None:
    if not isinstance(block, dict) or block.get("type") not in types:
        raise InvalidRequestError(f"{where} must be a content block of type {' or '.join(types)}")
    required = _BLOCK_KEYS[block["type"]]
    optional = _OPTIONAL_BLOCK_KEYS.get(block["type"], {})
    for key, kind in required.items():
        if not isinstance(block.get(key), kind):
            raise InvalidRequestError(f"{where}.{key} must be a {kind.__name__}")
    for key, value in block.items():
        if key in ("type", "cache") or key in required:
            continue
        if key not in optional or not isinstance(value, optional[key]):
            raise InvalidRequestError(f"{where} has the unknown or ill-typed field {key!r}")
    if block["type"] == "image":
        try:
            base64.b64decode(block["data"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequestError(f"{where}.data must be base64") from error
    _check_cache(block, where)


def _check_cache(value: Mapping[str, Any], where: str) -> None:
    if value.get("cache", "short") not in ("short", "long"):
        raise InvalidRequestError(f"{where}.cache must be 'short' or 'long'")


def _check_usage(usage: Any, where: str) -> Usage:
    merged = zero_usage()
    if not isinstance(usage, dict) or not isinstance(usage.get("cost", {}), dict):
        raise InvalidRequestError(f"{where} must be a usage object")
    for target, given in ((merged, usage), (merged["cost"], usage.get("cost", {}))):
        for key, value in given.items():
            if key == "cost" and target is merged:
                continue
            if key not in target or isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidRequestError(f"{where}.{key} must be a known count")
            target[key] = value  # type: ignore[literal-required]  # checked against the keys above
    return merged
