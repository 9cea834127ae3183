"""The adapter to OpenAI's Responses API against a local server that speaks its wire, and which wire `openai:` takes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agentkit import Agent, AgentKit, Model, tool
from agentkit.agents import BoundAgent
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage, text_of
from agentkit.errors import ProviderError
from agentkit.providers import resolve
from agentkit.providers.compat import Compat
from agentkit.providers.connection import Connection
from agentkit.providers.openai_responses import OpenAIResponsesProvider
from agentkit.providers.openai_wires import OpenAIWires
from agentkit.providers.protocol import ModelRequest, Provider
from agentkit.testing.provider_contract import ProviderContract, build
from agentkit.testing.wire_server import Reply
from tests.misbehaving import ErrorAsJsonContract, TextStreamContract
from tests.openai_server import OpenAIServer, error_body
from tests.responses_server import ResponsesServer, frames, sse
from tests.vendor_bounds import VendorBoundsContract

HELLO = ModelRequest("gpt-test", "", [UserMessage("hello", 0)])


class TestOpenAIResponsesProvider(ProviderContract, TextStreamContract, ErrorAsJsonContract, VendorBoundsContract):
    no_content = (
        b": keepalive\n\n",
        b"\r\n",
        b'event: keepalive\ndata: {"type": "keepalive", "sequence_number": 3}\n\n',
        b'data: {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": ""}\n\n',
    )

    def provider(self) -> Provider:
        return OpenAIResponsesProvider()

    def point_at(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1/")
        monkeypatch.setenv("OPENAI_API_KEY", key)

    def encode(self, turn: Any) -> list[bytes]:
        return frames(turn)

    def error_body(self, message: str) -> bytes:
        return error_body(message)


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("/v1/", "/v1/responses"),
        ("/v1/responses", "/v1/responses"),
        ("/v1/chat/completions", "/v1/responses"),
        ("/openai/v1?api-version=preview", "/openai/v1/responses?api-version=preview"),
    ],
)
def test_the_key_goes_to_the_responses_of_the_base_url(monkeypatch: pytest.MonkeyPatch, base: str, path: str) -> None:
    with ResponsesServer(["hi"]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}{base}")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        provider = OpenAIResponsesProvider(compat=Compat(key_header="api-key"))
        assert text_of(build(provider.stream(HELLO, Cancellation()))) == "hi"
    assert server.requests[0].path == path
    assert server.requests[0].headers["api-key"] == "sk-1"


def test_the_agents_own_key_headers_and_address_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")
    with ResponsesServer(["hi"]) as server:
        connection = Connection(server.base_url, lambda: "sk-2", {"X-Team": "support"})
        request = replace(HELLO, connection=connection)
        assert text_of(build(OpenAIResponsesProvider().stream(request, Cancellation()))) == "hi"
    headers = server.requests[0].headers
    assert (headers["authorization"], headers["x-team"], headers["openai-project"]) == (
        "Bearer sk-2",
        "support",
        "proj_1",
    )


def test_an_error_inside_the_stream_hides_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = {"type": "error", "code": "invalid_api_key", "message": "bad key sk-99", "param": None}
    with ResponsesServer(lambda _: Reply([*frames("hi")[:2], *sse(failure)])) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-99")
        with pytest.raises(ProviderError, match=r"bad key \*\*\*"):
            list(OpenAIResponsesProvider().stream(HELLO, Cancellation()))


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
def test_a_response_as_json_in_place_of_a_stream_is_read(monkeypatch: pytest.MonkeyPatch, content_type: str) -> None:
    last = json.loads(frames("hi")[-1].partition(b"data: ")[2])
    whole = json.dumps(last["response"], indent=1).encode()
    with ResponsesServer(lambda _: Reply([whole], content_type=content_type)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        message = build(OpenAIResponsesProvider().stream(HELLO, Cancellation()))
    assert (text_of(message), message.stop_reason, message.usage.output) == ("hi", "stop", 7)


# -- which wire


@pytest.mark.parametrize(
    ("url", "api"),
    [
        ("", "openai-responses"),
        ("https://api.openai.com/v1/", "openai-responses"),
        ("https://EU.api.openai.com/v1", "openai-responses"),
        ("https://api.openai.com.example.org/v1", "openai-completions"),
        ("https://notapi.openai.com/v1", "openai-completions"),
        ("https://openrouter.ai/api/v1", "openai-completions"),
        ("https://me.openai.azure.com/openai/v1", "openai-completions"),
        ("http://127.0.0.1:8080/v1", "openai-completions"),
        ("http://[::1/v1", "openai-completions"),
    ],
)
def test_openai_itself_is_asked_for_responses_and_others_for_chat_completions(
    monkeypatch: pytest.MonkeyPatch, url: str, api: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    provider = OpenAIWires()
    assert (provider.name, provider.api) == ("openai", api)


@pytest.mark.parametrize(
    ("url", "api"),
    [("https://eu.api.openai.com/v1", "openai-responses"), ("https://gateway.example.com/v1", "openai-completions")],
)
def test_the_address_that_an_agent_declares_decides_for_its_messages(
    monkeypatch: pytest.MonkeyPatch, url: str, api: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    for agent in (Agent("a", "openai:gpt-5", base_url=url), Agent("a", Model("openai:gpt-5", base_url=url))):
        [bound] = [agent.bind_choice(choice) for choice in agent.choices]
        message = BoundAgent(agent, [bound]).empty_message(0)
        assert (message.api, message.provider) == (api, "openai")


def test_an_agent_may_name_both_wires_with_one_address() -> None:
    names = ["openai:gpt-5", "openai-completions:gpt-5"]
    agent = Agent("a", names, base_url="https://eu.api.openai.com/v1")
    assert [agent.bind_choice(name).connection.base_url for name in names] == ["https://eu.api.openai.com/v1"] * 2


@pytest.mark.parametrize("wire", ["openai-responses", "openai-completions"])
def test_a_wire_can_be_named(monkeypatch: pytest.MonkeyPatch, wire: str) -> None:
    provider, model = resolve(f"{wire}:gpt-test")
    assert (provider.name, provider.api, model) == (wire, wire, "gpt-test")
    server = ResponsesServer(["hi"]) if wire == "openai-responses" else OpenAIServer(["hi"])
    with server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        assert text_of(build(provider.stream(HELLO, Cancellation()))) == "hi"


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def test_reasoning_comes_back_before_the_call_that_it_led_to(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [
        [
            {"type": "thinking", "thinking": "Where?"},
            {"type": "toolCall", "id": "call_1", "name": "weather", "arguments": {"city": "Rome"}},
            {"type": "toolCall", "id": "call_2", "name": "weather", "arguments": {"city": "Bern"}},
        ],
        "sunny",
    ]
    with ResponsesServer(turns) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        kit = AgentKit([Agent("a", model="openai-responses:gpt-5.6-terra", tools=[weather])])
        run = kit.run("a", "How is it?")
    assert run.status == "completed", run.error
    assert run.messages is not None
    assert run.messages[-1]["content"] == [{"type": "text", "text": "sunny"}]
    assert (run.messages[-1]["api"], run.messages[-1]["provider"]) == ("openai-responses", "openai-responses")
    assert [request.path for request in server.requests] == ["/v1/responses"] * 2
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Where?"}]}
    assert server.requests[1].body["input"] == [
        {"role": "user", "content": "How is it?"},
        {**reasoning, "encrypted_content": "gAAAA-0"},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": '{"city": "Bern"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny in Rome"},
        {"type": "function_call_output", "call_id": "call_2", "output": "sunny in Bern"},
    ]
