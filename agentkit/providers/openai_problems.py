"""Where OpenAI-compatible servers put an error in an answer that began with HTTP 200. Pure."""

from __future__ import annotations

from typing import Any

from agentkit.core.messages import Json

__all__ = ["problem_of"]

_MINIMAX = {
    1000: "server_error",
    1001: "timeout",
    1002: "rate_limit",
    1008: "insufficient_balance",
    1013: "server_error",
    1024: "server_error",
    1026: "content_filter",
    1027: "content_filter",
    1033: "server_error",
    1039: "rate_limit",
    1041: "rate_limit",
    2045: "rate_limit",
}
"""Kinds of the status codes of MiniMax that are not the request's fault, or not only."""


def problem_of(chunk: Json) -> Any:
    """Return the error that a chunk carries; something empty where it carries none."""
    if problem := chunk.get("error") or chunk.get("errors"):
        return problem
    if chunk.get("object") == "error" or chunk.get("type") == "error":
        return chunk
    base = chunk.get("base_resp")
    if isinstance(base, dict) and base.get("status_code") not in (None, 0, "0"):
        return _of_minimax(base)
    if "choices" not in chunk and not chunk.get("usage"):
        # Gateways that give the error alone: {"code": "Throttling", "message": "…"}, {"detail": "…"}.
        return chunk if any(chunk.get(name) for name in ("message", "msg", "detail", "error_msg")) else None
    return None


def _of_minimax(base: Json) -> Json:
    code = base["status_code"]
    kind = _MINIMAX.get(int(code)) if str(code).isdecimal() and len(str(code)) < 9 else None
    return {"message": base.get("status_msg") or f"status code {code}", "type": kind or "invalid_request_error"}
