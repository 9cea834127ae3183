"""Claude on Bedrock and Vertex AI is sent what Anthropic is sent, but for the frame around it."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import DocumentBlock, ImageBlock, TextBlock, ThinkingBlock, UserMessage
from agentkit.providers import resolve
from agentkit.providers.connection import Connection
from agentkit.providers.protocol import ModelRequest, ToolSpec
from agentkit.testing.provider_contract import build
from agentkit.testing.wire_server import Reply, WireServer
from tests import anthropic_server, bedrock_server
from tests.histories import assistant, call, result

MODEL = "claude-opus-5-5"
FRAME = ("anthropic_version", "model", "stream")
SSE = ("text/event-stream", anthropic_server.frames("ok"))
AWS = ("application/vnd.amazon.eventstream", bedrock_server.frames("ok"))


def body_sent(provider: str) -> dict[str, Any]:
    """What a provider sends of a conversation with all that the table of vendors has."""
    content_type, frames = AWS if provider == "bedrock" else SSE
    own: dict[str, Any] = {"api": "anthropic-messages", "provider": provider, "model": MODEL}
    document = DocumentBlock("aGk=", "application/pdf", "a.pdf")
    messages = [
        UserMessage([TextBlock("see", "long"), ImageBlock("aGk=", "image/png"), document], 0),
        assistant(ThinkingBlock("hm", "c2ln"), call("a", x=1), call("b", x=2), stop="toolUse", **own),
        result("a", ImageBlock(url="https://example.org/a.png"), document),
        result("b", TextBlock("2")),
    ]
    tools = [ToolSpec("look", "Looks.", {"type": "object", "properties": {"x": {"type": "integer"}}}, "short")]
    options = {
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
        "tools": [{"type": "web_search_20260209", "name": "web_search"}],
    }
    with WireServer(lambda _: Reply(frames, content_type=content_type)) as server:
        url = f"{server.url}/v1/projects/p/locations/global" if provider == "vertex" else server.url
        request = ModelRequest(MODEL, "Be brief.", messages, tools, options, "short", connection=Connection(url, "k"))
        build(resolve(f"{provider}:{MODEL}")[0].stream(request, Cancellation()))
        (sent,) = server.requests
    return {name: value for name, value in sent.body.items() if name not in FRAME}


@pytest.mark.parametrize("provider", ["bedrock", "vertex"])
def test_a_cloud_is_sent_what_anthropic_is_sent(provider: str) -> None:
    body = body_sent(provider)
    assert body == body_sent("anthropic")
    kinds = [[block["type"] for block in turn["content"]] for turn in body["messages"]]
    assert kinds[:2] == [["text", "image", "document"], ["thinking", "tool_use", "tool_use"]]
    assert [tool["name"] for tool in body["tools"]] == ["web_search", "look"]
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert "cache_control" in str(body["messages"][0])
