"""What OpenAI-compatible servers send of a model's thinking, which each of them spells in its own way. Pure."""

from __future__ import annotations

from typing import Any

from agentkit.core.messages import Json

__all__ = ["ReasoningDetails", "thinking_of"]

_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
_TEXTS = ("text", "content", "summary", "thinking", "reasoning", "reasoning_content")
_DEPTH = 5


def thinking_of(delta: Json) -> str:
    """Return the thinking of a delta or a message; of several spellings that say the same, the first."""
    for name in (*_FIELDS, "reasoning_details"):
        if text := _flat(delta.get(name)):
            return text
    return ""


def _flat(value: Any, depth: int = _DEPTH) -> str:
    """Join the texts of a value: a text, an object that has one, or a list of either."""
    if isinstance(value, str) or not value or depth == 0:
        return value if isinstance(value, str) else ""
    if isinstance(value, list):
        return "".join(_flat(entry, depth - 1) for entry in value)
    if isinstance(value, dict):
        return next((text for name in _TEXTS if (text := _flat(value.get(name), depth - 1))), "")
    return ""


class ReasoningDetails:
    """Joins the pieces of `reasoning_details`, which go back as the blocks that they were: each is signed whole.

    A block comes in pieces of one type with one index, one after the other, the signature perhaps alone and last
    (OpenRouter). What has another type, or is encrypted, is a block of its own.
    """

    def __init__(self) -> None:
        self.blocks: list[Json] = []

    def feed(self, details: Any) -> None:
        """Add the pieces of one delta."""
        for piece in details if isinstance(details, list) else ():
            if not isinstance(piece, dict):
                continue
            text = {"reasoning.text": "text", "reasoning.summary": "summary"}.get(str(piece.get("type")))
            if text is None or not self.blocks or not _goes_on(self.blocks[-1], piece, text):
                self.blocks.append(dict(piece))
                continue
            block = self.blocks[-1]
            known = {key: value for key, value in piece.items() if value is not None and key != text}
            block.update(known)
            block[text] = str(block.get(text) or "") + str(piece.get(text) or "")


def _goes_on(block: Json, piece: Json, text: str) -> bool:
    if any(block.get(key) != piece.get(key) for key in ("type", "index")):
        return False
    if block.get("id") and piece.get("id") and block["id"] != piece["id"]:
        return False
    return not (block.get("signature") and piece.get(text))
