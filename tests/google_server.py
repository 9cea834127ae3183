"""A model server that speaks Google's generateContent: what its stream looks like, for the tests of all providers."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["SIGNATURE", "error_body", "event", "frames"]

Turn = str | list[dict[str, Any]]
"""A text, or text, thinking and toolCall blocks (a toolCall may leave out its id)."""

SIGNATURE = "c2lnbmVk"
USAGE = {
    "promptTokenCount": 14,
    "cachedContentTokenCount": 3,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 2,
    "totalTokenCount": 21,
}


def error_body(message: str, status: int = 400, kind: str = "INVALID_ARGUMENT") -> bytes:
    return json.dumps({"error": {"code": status, "message": message, "status": kind}}).encode()


def event(**chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk)}\r\n\r\n".encode()


def frames(turn: Turn, model: str = "gemini-test", chunk_size: int = 4) -> list[bytes]:
    """The answer's server-sent events, one part each, with the finish reason last. The first call is signed."""
    blocks = [{"type": "text", "text": turn}] if isinstance(turn, str) else turn
    parts: list[dict[str, Any]] = []
    calls = 0
    for block in blocks:
        if block["type"] == "toolCall":
            call = {"name": block["name"], "args": block["arguments"]}
            call_id = {"id": block["id"]} if block.get("id") else {}
            signature = {} if calls else {"thoughtSignature": SIGNATURE}
            parts.append({"functionCall": {**call_id, **call}, **signature})
            calls += 1
        elif block["type"] == "thinking":
            parts += [{"text": piece, "thought": True} for piece in _pieces(block["thinking"], chunk_size)]
        else:
            parts += [{"text": piece} for piece in _pieces(block["text"], chunk_size)]
    head = {"modelVersion": f"{model}-001", "responseId": "r1"}
    candidates: list[dict[str, Any]] = [{"content": {"role": "model", "parts": [part]}, "index": 0} for part in parts]
    chunks = [event(candidates=[candidate], usageMetadata=USAGE, **head) for candidate in candidates]
    end = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}
    return [*chunks, event(candidates=[end], usageMetadata=USAGE, **head)]


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
