"""A model server that speaks OpenAI's chat completions and answers from a script.

As its own process: `python -m tests.openai_server --port 0 --script FILE` prints its port in one
line and serves until it is ended; FILE holds a JSON list of turns. Like ScriptedModel, it answers
by the conversation alone: the number of assistant messages since the last user message.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentkit.testing.wire_server import Reply, Request, WireServer

__all__ = ["OpenAIServer", "Turn", "error_body", "frames", "scripted"]

Turn = str | list[dict[str, Any]]
"""A text, or text, thinking and toolCall blocks (a toolCall may leave out its id)."""

USAGE = {
    "prompt_tokens": 14,
    "completion_tokens": 7,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 3},
}


class OpenAIServer(WireServer):
    """`script`: turns, or a function from the request's body to a turn or a whole Reply."""

    def __init__(
        self,
        script: Sequence[Turn] | Callable[[Any], Turn | Reply],
        port: int = 0,
        chunk_size: int = 16,
        delay: float = 0.0,
    ) -> None:
        choose = script if callable(script) else scripted(script)

        def answer(request: Request) -> Reply:
            turn = choose(request.body)
            if isinstance(turn, Reply):
                return turn
            answered = sum(message["role"] == "assistant" for message in request.body["messages"])
            return Reply(frames(turn, request.body["model"], chunk_size, answered), delay=delay)

        super().__init__(answer, port)

    @property
    def base_url(self) -> str:
        """What OPENAI_BASE_URL is to be."""
        return f"{self.url}/v1"


def scripted(turns: Sequence[Turn]) -> Callable[[Any], Turn | Reply]:
    """Answers with `turns[n]` where n assistant messages follow the last user message."""

    def choose(body: Any) -> Turn | Reply:
        since_user = 0
        for message in reversed(body["messages"]):
            if message["role"] == "user":
                break
            since_user += message["role"] == "assistant"
        if since_user < len(turns):
            return turns[since_user]
        return Reply([error_body(f"the script has no turn {since_user + 1}")], 400, "application/json")

    return choose


def error_body(message: str, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}).encode()


def frames(turn: Turn, model: str = "gpt-test", chunk_size: int = 16, answered: int = 0) -> list[bytes]:
    """The answer's server-sent events, one chunk each, with the usage chunk and [DONE] last."""
    blocks = [{"type": "text", "text": turn}] if isinstance(turn, str) else turn
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    calls = 0
    for block in blocks:
        if block["type"] == "toolCall":
            deltas += _call_deltas(block, calls, f"call_{answered}_{calls}", chunk_size)
            calls += 1
        elif block["type"] == "thinking":
            deltas += [{"reasoning_content": piece} for piece in _pieces(block["thinking"], chunk_size)]
        else:
            deltas += [{"content": piece} for piece in _pieces(block["text"], chunk_size)]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": f"{model}-2026-01-01"}
    chunks = [{**head, "choices": [choice], "usage": None} for choice in choices]
    chunks.append({**head, "choices": [], "usage": USAGE})
    return [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


def _call_deltas(block: dict[str, Any], index: int, call_id: str, chunk_size: int) -> list[dict[str, Any]]:
    function = {"name": block["name"], "arguments": ""}
    first: dict[str, Any] = {"index": index, "id": block.get("id") or call_id, "type": "function", "function": function}
    arguments = block.get("rawArguments") or json.dumps(block["arguments"])
    rest = [{"index": index, "function": {"arguments": piece}} for piece in _pieces(arguments, chunk_size)]
    return [{"tool_calls": [call]} for call in [first, *rest]]


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model server on 127.0.0.1 that speaks OpenAI's wire.")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--script", type=Path, required=True, help="a JSON file: a list of turns")
    parser.add_argument("--chunk-size", type=int, default=16, help="characters per delta")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds between deltas")
    arguments = parser.parse_args()
    server = OpenAIServer(
        json.loads(arguments.script.read_text()), arguments.port, arguments.chunk_size, arguments.delay
    )
    print(server.port, flush=True)  # noqa: T201  # its parent reads it
    server.serve_forever()


if __name__ == "__main__":
    main()
