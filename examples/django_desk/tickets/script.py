"""What stands in for a model where there is no OPENAI_API_KEY: the next turn, from the conversation alone."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["desk", "digest"]

Message = dict[str, Any]


def desk(messages: list[Message]) -> str | list[Message]:
    """Look the ticket up, reply to it, and say what became of that."""
    at = max(index for index, message in enumerate(messages) if message["role"] == "user")
    number = re.search(r"\d+", _text(messages[at]))
    if number is None:
        return "Which ticket is it? Give me its number."
    results = [message for message in messages[at:] if message["role"] == "toolResult"]
    if not results:
        return [_call("get_ticket", number=int(number[0]))]
    result = _text(results[-1])
    if results[-1]["isError"] or results[-1]["toolName"] == "reply":
        return f"This is how it went: {result}."
    subject = json.loads(result)["subject"]
    return [_call("reply", number=int(number[0]), text=f"Thank you for writing about {subject!r}. We have seen to it.")]


def digest(messages: list[Message]) -> str | list[Message]:
    """Count, and report."""
    if messages[-1]["role"] == "toolResult":
        return f"Good morning. {_text(messages[-1])}."
    return [_call("count_tickets")]


def _text(message: Message) -> str:
    content = message["content"]  # of a user's message also a plain text
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def _call(name: str, **arguments: Any) -> Message:
    return {"type": "toolCall", "name": name, "arguments": arguments}
