"""The order of messages that a server takes, where it takes fewer than OpenAI does. Pure."""

from __future__ import annotations

import re
from typing import Any

from agentkit.core.messages import Json
from agentkit.providers.compat import Compat

__all__ = ["in_order"]

_MISTRAL = re.compile(r"[sx]tral", re.IGNORECASE)
"""Mistral, Mixtral, Devstral, Pixtral and so on: their templates refuse a user message after a tool message."""

_BETWEEN: Json = {"role": "assistant", "content": "Understood."}
_BEFORE: Json = {"role": "user", "content": "(The conversation begins with your message.)"}


def in_order(messages: list[Json], model: str, compat: Compat) -> list[Json]:
    """Return the messages in an order that the server takes.

    With `alternating_roles`, neighbours of one role are joined and a user message stands first. Where a user message
    may not follow a tool message, an assistant message of one word stands between.
    """
    between = compat.assistant_after_tool or _MISTRAL.search(model)
    ordered: list[Json] = []
    for message in messages:
        role, before = message["role"], ordered[-1]["role"] if ordered else "system"
        if compat.alternating_roles and role == "assistant" and before == "system":
            ordered.append(_BEFORE)
        if between and role == "user" and before == "tool":
            ordered.append(_BETWEEN)
        if compat.alternating_roles and role == before and role in ("user", "assistant"):
            ordered[-1] = _joined(ordered[-1], message)
        else:
            ordered.append(message)
    return ordered


def _joined(first: Json, second: Json) -> Json:
    """Join two messages of one role: their texts with an empty line between, and their lists."""
    joined = {**first, **second, "content": _joined_content(first["content"], second["content"])}
    for name in ("reasoning_details", "tool_calls"):
        if first.get(name) and second.get(name):
            joined[name] = [*first[name], *second[name]]
    return joined


def _joined_content(first: Any, second: Any) -> Any:
    if not first or not second:
        return first or second
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
