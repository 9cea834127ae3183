"""What stands in for a model where there is no OPENAI_API_KEY: the next turn, from the conversation alone."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["support"]

Message = dict[str, Any]
_CUSTOMER = re.compile(r"\bC-\d+\b")


def support(messages: list[Message]) -> str | list[Message]:
    """Look the customer up, propose a credit, and say what became of it."""
    at = max(index for index, message in enumerate(messages) if message["role"] == "user")
    customer_id = _CUSTOMER.search(_text(messages[at]))
    if customer_id is None:
        return "Which customer is it? Their numbers look like C-1."
    results = [message for message in messages[at:] if message["role"] == "toolResult"]
    if not results:
        return [_call("get_customer", customer_id=customer_id[0])]
    result = _text(results[-1])
    if results[-1]["isError"] or results[-1]["toolName"] == "credit":
        return f"This is how it went: {result}."
    return [
        {"type": "text", "text": f"They wrote: {json.loads(result)['complaint']} That is worth a credit."},
        _call("credit", customer_id=customer_id[0], cents=500),
    ]


def _text(message: Message) -> str:
    content = message["content"]  # of a user's message also a plain text
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def _call(name: str, **arguments: Any) -> Message:
    return {"type": "toolCall", "name": name, "arguments": arguments}
