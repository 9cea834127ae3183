"""What a server of Anthropic's Messages API sends, for tests that play one with `agentkit.testing.wire_server`."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Turn", "error_body", "frame", "frames"]

Turn = str | list[dict[str, Any]]
"""A text, or text, thinking and toolCall blocks (a toolCall may leave out its id)."""


def error_body(message: str, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def frame(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def frames(turn: Turn, model: str = "claude-test", chunk_size: int = 16, answered: int = 0) -> list[bytes]:
    """The answer's server-sent events, one each: 11 new, 3 cached and 7 written tokens."""
    blocks = [{"type": "text", "text": turn}] if isinstance(turn, str) else turn
    calls = any(block["type"] == "toolCall" for block in blocks)
    usage = {"input_tokens": 11, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": f"{model}-20260101", "content": []}
    sent = [frame("message_start", message={**message, "stop_reason": None, "usage": usage})]
    for at, block in enumerate(blocks):
        sent += _block(block, at, f"toolu_{answered}_{at}", chunk_size)
    delta = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    sent.append(frame("message_delta", delta=delta, usage={"output_tokens": 7}))
    return [*sent, frame("message_stop")]


def _block(block: dict[str, Any], at: int, call_id: str, size: int) -> list[bytes]:
    if block["type"] == "toolCall":
        start = {"type": "tool_use", "id": block.get("id") or call_id, "name": block["name"], "input": {}}
        arguments = json.dumps(block["arguments"]) if block["arguments"] else ""
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(arguments, size)]]
    elif block["type"] == "thinking":
        start = {"type": "thinking", "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"], size)]
        deltas.append({"type": "signature_delta", "signature": block.get("signature", "c2ln")})
    else:
        start = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"], size)]
    return [
        frame("content_block_start", index=at, content_block=start),
        frame("ping"),
        *(frame("content_block_delta", index=at, delta=delta) for delta in deltas),
        frame("content_block_stop", index=at),
    ]


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
