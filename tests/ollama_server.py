"""What an Ollama server answers, from a turn: the lines of /api/chat."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["error_body", "lines"]


def error_body(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def lines(turn: str | list[dict[str, Any]], model: str = "llama-test", chunk_size: int = 4) -> list[bytes]:
    """The answer's lines, the one with the counts last. `turn`: a text, or text, thinking and toolCall blocks."""
    blocks = [{"type": "text", "text": turn}] if isinstance(turn, str) else turn
    messages: list[dict[str, Any]] = []
    for block in blocks:
        if block["type"] == "toolCall":
            function = {"name": block["name"], "arguments": block["arguments"]}
            messages.append({"tool_calls": [{"id": block.get("id") or "", "function": function}]})
        else:
            key, text = ("content", block["text"]) if block["type"] == "text" else ("thinking", block["thinking"])
            messages += [{key: text[at : at + chunk_size]} for at in range(0, len(text), chunk_size)]
    head = {"model": model, "created_at": "2026-01-01T00:00:00Z"}
    values = [{**head, "message": {"role": "assistant", "content": "", **m}, "done": False} for m in messages]
    counts = {"prompt_eval_count": 14, "eval_count": 7}
    last = {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **counts}
    return [json.dumps(value).encode() + b"\n" for value in [*values, last]]
