"""Whether we would have sent what OpenAI-compatible servers and Ollama were seen to accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.core.messages import Message, TextBlock, ToolCallBlock, UserMessage
from agentkit.providers import ollama, openai
from agentkit.providers.compat import compat_for
from agentkit.providers.protocol import ModelRequest, ToolSpec
from tests.histories import assistant, result
from tests.integration.test_wire_corpus import CORPUS, EXPECTED

pytestmark = pytest.mark.skipif(not CORPUS, reason="AGENTKIT_WIRE_CORPUS is not set")

URLS = {
    "azure": "https://some.openai.azure.com/openai/deployments/some?api-version=1",
    "deepseek": "https://api.deepseek.com",
    "groq": "https://api.groq.com/openai/v1",
    "mistral": "https://api.mistral.ai/v1",
    "openai": "https://api.openai.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
}
LIMITS = {"max_tokens": "max_completion_tokens"}


def accepted(kind: str) -> list[str]:
    """The bodies that a stream answered."""
    names = [name.rsplit(".", 1)[0] for name, expected in EXPECTED.items() if expected["kind"] == kind]
    names = [name for name in sorted(names) if "_error_4" not in name and "_error_5" not in name]
    paths = [Path(CORPUS, f"{name}.request.json") for name in names]
    return [path.name for path in paths if path.exists() and json.loads(path.read_text()).get("stream")]


def plain(content: Any) -> Any:
    """A text, also where it was sent as a list of one."""
    return "".join(part["text"] for part in content) if isinstance(content, list) else content


def asked(body: dict[str, Any]) -> ModelRequest:
    """The request of ours that should become `body`."""
    messages: list[Message] = []
    instructions = ""
    for message in body["messages"]:
        if message["role"] == "system":
            instructions = plain(message["content"])
        elif message["role"] == "user":
            messages.append(UserMessage(plain(message["content"]), 0))
        elif message["role"] == "tool":
            messages.append(result(message["tool_call_id"], TextBlock(plain(message["content"]))))
        else:
            calls = [
                ToolCallBlock(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
                for call in message.get("tool_calls", [])
            ]
            texts = [TextBlock(plain(message["content"]))] if message.get("content") else []
            messages.append(assistant(*texts, *calls))
    functions = [tool["function"] for tool in body.get("tools", [])]
    tools = [ToolSpec(f["name"], f["description"], f["parameters"]) for f in functions]
    options = {k: v for k, v in body.items() if k not in ("model", "messages", "tools", "stream", "stream_options")}
    inner = options.pop("options", {}) if "think" in body or "keep_alive" in body else {}
    return ModelRequest(body["model"], instructions, messages, tools, {**options, **inner})


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """Without what two accepted bodies may differ in: the spelling of texts and limits, and asking for usage."""
    shown = {LIMITS.get(name, name): value for name, value in body.items() if name != "stream_options"}
    shown["messages"] = [{**message, "content": plain(message["content"])} for message in body["messages"]]
    functions = [tool["function"] for tool in body.get("tools", [])]
    shown["tools"] = [{key: value for key, value in f.items() if key != "strict"} for f in functions]
    return shown


@pytest.mark.parametrize("name", accepted("openai"))
def test_we_send_what_openai_compatible_servers_were_seen_to_accept(name: str) -> None:
    body = json.loads(Path(CORPUS, name).read_text())
    compat = compat_for(URLS.get(name.split("_")[0], "http://127.0.0.1:8080/v1"))
    ours = openai.build_request(asked(body), "openai", compat)
    assert comparable(ours) == comparable(body)
    if "stream_options" not in ours:
        assert "stream_options" not in body


@pytest.mark.parametrize("name", accepted("ollama"))
def test_we_send_what_ollama_was_seen_to_accept(name: str) -> None:
    body = json.loads(Path(CORPUS, name).read_text())
    ours = ollama.build_request(asked(body))
    assert comparable({"options": {}, **ours}) == comparable(body)
