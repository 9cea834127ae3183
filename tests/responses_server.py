"""A model server that speaks OpenAI's Responses API and answers from a script, as `tests.openai_server` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agentkit.testing.wire_server import Reply, Request, WireServer
from tests.openai_server import Turn, error_body

__all__ = ["ResponsesServer", "frames", "sse"]

USAGE = {
    "input_tokens": 14,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 21,
}


class ResponsesServer(WireServer):
    """`script`: turns, one for each call after a user message, or a function from the body to a turn or a Reply."""

    def __init__(self, script: Sequence[Turn] | Callable[[Any], Turn | Reply]) -> None:
        choose = script if callable(script) else scripted(script)

        def answer(request: Request) -> Reply:
            turn = choose(request.body)
            return turn if isinstance(turn, Reply) else Reply(frames(turn, request.body["model"]))

        super().__init__(answer)

    @property
    def base_url(self) -> str:
        """What OPENAI_BASE_URL is to be."""
        return f"{self.url}/v1"


def scripted(turns: Sequence[Turn]) -> Callable[[Any], Turn | Reply]:
    """Answers with `turns[n]` where the results of n turns follow the last user message."""

    def choose(body: Any) -> Turn | Reply:
        types = ["user" if item.get("role") == "user" else item["type"] for item in body["input"]]
        since_user = types[len(types) - types[::-1].index("user") :]
        answered = sum(
            kind == "function_call_output" and since_user[at - 1] != kind for at, kind in enumerate(since_user)
        )
        if answered < len(turns):
            return turns[answered]
        return Reply([error_body(f"the script has no turn {answered + 1}")], 400, "application/json")

    return choose


def sse(*events: dict[str, Any]) -> list[bytes]:
    """Each event as the vendor frames it, numbered."""
    numbered = [{**event, "sequence_number": number} for number, event in enumerate(events)]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in numbered]


def frames(turn: Turn, model: str = "gpt-test", chunk_size: int = 16) -> list[bytes]:
    """The answer's server-sent events: items announced, streamed and repeated whole, and the response at both ends."""
    blocks = [{"type": "text", "text": turn}] if isinstance(turn, str) else turn
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "model": f"{model}-2026-01-01",
        "error": None,
        "parallel_tool_calls": True,
        "store": False,
        "tool_choice": "auto",
        "tools": [],
    }
    started = {**response, "status": "in_progress", "output": [], "usage": None}
    items = [_item(block, number) for number, block in enumerate(blocks)]
    events: list[dict[str, Any]] = [
        {"type": f"response.{kind}", "response": started} for kind in ("created", "in_progress")
    ]
    for number, item in enumerate(items):
        events += [{**event, "output_index": number} for event in _item_events(item, chunk_size)]
    ended = {**response, "status": "completed", "incomplete_details": None, "output": items, "usage": USAGE}
    return sse(*events, {"type": "response.completed", "response": ended})


def _item(block: dict[str, Any], number: int) -> dict[str, Any]:
    """A block of a turn as the output item that it comes as."""
    match block["type"]:
        case "toolCall":
            return {
                "id": f"fc_{number}",
                "type": "function_call",
                "status": "completed",
                "call_id": block.get("id") or f"call_{number}",
                "name": block["name"],
                "arguments": block.get("rawArguments") or json.dumps(block["arguments"]),
            }
        case "thinking":
            return {
                "id": f"rs_{number}",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": block["thinking"]}],
                "encrypted_content": f"gAAAA-{number}",
            }
        case _:
            content = [{"type": "output_text", "text": block["text"], "annotations": [], "logprobs": []}]
            message = {"type": "message", "status": "completed", "role": "assistant", "content": content}
            return {"id": f"msg_{number}", **message}


def _item_events(item: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    empty = {"summary": [], "content": [], "arguments": ""}
    begun = {**item, **{key: value for key, value in empty.items() if key in item}, "status": "in_progress"}
    yield {"type": "response.output_item.added", "item": begun}
    match item["type"]:
        case "function_call":
            at = {"item_id": item["id"]}
            for piece in _pieces(item["arguments"], size):
                yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
            yield {"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"]}
        case "reasoning":
            part = item["summary"][0]
            at = {"item_id": item["id"], "summary_index": 0}
            yield {"type": "response.reasoning_summary_part.added", **at, "part": {**part, "text": ""}}
            for piece in _pieces(part["text"], size):
                yield {"type": "response.reasoning_summary_text.delta", **at, "delta": piece}
            yield {"type": "response.reasoning_summary_text.done", **at, "text": part["text"]}
            yield {"type": "response.reasoning_summary_part.done", **at, "part": part}
        case _:
            part = item["content"][0]
            at = {"item_id": item["id"], "content_index": 0}
            yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
            for piece in _pieces(part["text"], size):
                yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
            yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
            yield {"type": "response.content_part.done", **at, "part": part}
    yield {"type": "response.output_item.done", "item": item}


def _pieces(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]
