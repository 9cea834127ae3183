"""What scripted models answer with, in few words."""

from __future__ import annotations

from typing import Any

from agentkit.core.messages import Json

__all__ = ["call", "with_ids"]


def call(name: str, call_id: str | None = None, /, **arguments: Any) -> Json:
    """Make a toolCall block of a turn. Without `call_id` the scripted model makes up an id, a new one each time."""
    block: Json = {"type": "toolCall", "name": name, "arguments": arguments}
    return block if call_id is None else {**block, "id": call_id}


def with_ids(turn: Any) -> Any:
    """Give each call of a turn that has no id the name of its tool for one, so that a test can name the call."""
    if not isinstance(turn, list):
        return turn
    return [{"id": block["name"], **block} if block.get("type") == "toolCall" else block for block in turn]
