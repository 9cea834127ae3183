"""The Anthropic adapter against a local server that speaks its wire."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agentkit import Agent, AgentKit, Run, tool
from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage, text_of
from agentkit.errors import ProviderError
from agentkit.providers import resolve
from agentkit.providers.anthropic import AnthropicProvider
from agentkit.providers.protocol import Finish, ModelRequest, Provider
from agentkit.testing.provider_contract import ProviderContract, build
from agentkit.testing.wire_server import Reply, WireServer
from tests.anthropic_server import error_body, frame, frames
from tests.misbehaving import ErrorAsJsonContract, TextStreamContract
from tests.vendor_bounds import VendorBoundsContract

HELLO = ModelRequest("claude-test", "", [UserMessage("hello", 0)])


class TestAnthropicProvider(ProviderContract, TextStreamContract, ErrorAsJsonContract, VendorBoundsContract):
    no_content = (b": keepalive\n\n", b"\n", b"id: 1\n", b'event: ping\ndata: {"type": "ping"}\n\n')

    def provider(self) -> Provider:
        return AnthropicProvider()

    def point_at(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{url}/")
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)

    def encode(self, turn: Any) -> list[bytes]:
        return frames(turn)

    def error_body(self, message: str) -> bytes:
        return error_body(message)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_the_key_goes_to_the_messages_of_the_base_url(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    with WireServer(lambda _: Reply(frames("hi"))) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url + suffix)
        monkeypatch.setenv("ANTHROPIC_API_KEY", " sk-1\n")
        assert text_of(build(AnthropicProvider().stream(HELLO, Cancellation()))) == "hi"
    assert server.requests[0].path == "/v1/messages"
    assert server.requests[0].headers["x-api-key"] == "sk-1"
    assert server.requests[0].headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in server.requests[0].headers


@pytest.mark.parametrize("betas", [["one", "two"], "one,two"])
def test_beta_features_are_named_in_a_header_and_not_in_the_body(monkeypatch: pytest.MonkeyPatch, betas: Any) -> None:
    with WireServer(lambda _: Reply(frames("hi"))) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        request = ModelRequest("claude-test", "", [UserMessage("hello", 0)], options={"betas": betas})
        build(AnthropicProvider().stream(request, Cancellation()))
    assert server.requests[0].headers["anthropic-beta"] == "one,two"
    assert "betas" not in server.requests[0].body


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with WireServer(lambda _: Reply(frames("hi"))) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        build(AnthropicProvider().stream(HELLO, Cancellation()))
    assert "x-api-key" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("key", "url", "hint"),
    [
        ("", "", "ANTHROPIC_API_KEY"),
        ("sk-1 sk-2", "", "ANTHROPIC_API_KEY"),
        ("sk-1", "localhost", "ANTHROPIC_BASE_URL"),
    ],
)
def test_a_wrong_setting_is_named_and_not_retried(
    monkeypatch: pytest.MonkeyPatch, key: str, url: str, hint: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    with pytest.raises(ProviderError, match=hint) as caught:
        list(AnthropicProvider().stream(HELLO, Cancellation()))
    assert not caught.value.retryable


def test_an_error_inside_the_stream_hides_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"type": "authentication_error", "message": "bad key sk-99"}
    pieces = [*frames("hi")[:3], frame("error", error=error, request_id="req_9")]
    with WireServer(lambda _: Reply(pieces)) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-99")
        with pytest.raises(ProviderError, match=r"bad key \*\*\*") as caught:
            list(AnthropicProvider().stream(HELLO, Cancellation()))
    assert (caught.value.retryable, caught.value.request_id) == (False, "req_9")


def test_an_overloaded_vendor_is_retryable(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = Reply([error_body("Overloaded", "overloaded_error")], 529, "application/json", {"x-should-retry": "true"})
    with WireServer(lambda _: reply) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        with pytest.raises(ProviderError, match="529: Overloaded") as caught:
            list(AnthropicProvider().stream(HELLO, Cancellation()))
    assert caught.value.retryable


def test_the_answer_is_over_with_its_last_event_though_the_vendor_lingers(monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(lambda _: Reply(frames("hi"), silence="after")) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        answers: list[str] = []
        thread = threading.Thread(
            target=lambda: answers.append(text_of(build(AnthropicProvider().stream(HELLO, Cancellation()))))
        )
        thread.start()
        thread.join(10)
        assert answers == ["hi"]


# -- answers that the vendor pauses, because its own tools take long

SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "rome"}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"encrypted_content": "ENC-1"}]}
TOOLS = [{"type": "web_search_20260209", "name": "web_search"}]


def answer_of(*blocks: dict[str, Any], reason: str = "end_turn", **delta: Any) -> list[bytes]:
    usage = {"input_tokens": 11, "cache_read_input_tokens": 3, "output_tokens": 1}
    pieces = [frame("message_start", message={"model": "claude-test-1", "usage": usage})]
    for at, block in enumerate(blocks):
        pieces += [frame("content_block_start", index=at, content_block=block), frame("content_block_stop", index=at)]
    return [*pieces, frame("message_delta", delta={"stop_reason": reason, **delta}, usage={"output_tokens": 7})]


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def run_of(server: WireServer, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Run:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-1")
    return AgentKit(agents=[Agent("a", "anthropic:claude-test", options={"tools": TOOLS, **options})]).run("a", "Hi")


def test_a_paused_answer_goes_on_within_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    again = {**SEARCH, "id": "srvtoolu_2"}
    answers = iter(
        [
            answer_of(text("Let me search."), SEARCH, reason="pause_turn", container={"id": "c1"}),
            answer_of(FOUND, again, reason="pause_turn", container={"id": "c1"}),
            answer_of({**FOUND, "tool_use_id": "srvtoolu_2"}, text("Sunny.")),
        ]
    )
    with WireServer(lambda _: Reply(next(answers))) as server:
        run = run_of(server, monkeypatch)
    assert (run.status, len(run.messages)) == ("completed", 2)
    message = run.messages[-1]
    assert [block["text"] for block in message["content"]] == ["Let me search.", "Sunny."]
    assert message["stopReason"] == "stop"
    assert (message["usage"]["input"], message["usage"]["cacheRead"], message["usage"]["output"]) == (33, 9, 21)
    bodies = [request.body for request in server.requests]
    assert [body.get("container") for body in bodies] == [None, "c1", "c1"]
    asked = bodies[0]["messages"]
    assert bodies[1]["messages"] == [*asked, {"role": "assistant", "content": [text("Let me search."), SEARCH]}]
    assert bodies[2]["messages"] == [
        *asked,
        {"role": "assistant", "content": [text("Let me search."), SEARCH, FOUND, again]},
    ]
    assert all(body["tools"] == TOOLS for body in bodies)


@pytest.mark.parametrize(("options", "requests"), [({}, 11), ({"max_pauses": 2}, 3), ({"max_pauses": 0}, 1)])
def test_an_answer_that_is_paused_without_end_is_a_failure_with_its_usage(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, int], requests: int
) -> None:
    with WireServer(lambda _: Reply(answer_of(text("Let me"), SEARCH, reason="pause_turn"))) as server:
        run = run_of(server, monkeypatch, **options)
    assert (run.status, len(server.requests)) == ("failed", requests)
    assert f"not done after {requests} requests" in (run.error or {})["message"]
    assert "max_pauses" not in server.requests[0].body
    assert run.usage["output"] == 7 * requests


def test_what_a_failed_continuation_cost_is_counted_with_what_was_before(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([Reply(answer_of(SEARCH, reason="pause_turn")), Reply([error_body("no")], 400, "application/json")])
    with WireServer(lambda _: next(answers)) as server:
        run = run_of(server, monkeypatch)
    assert (run.status, len(server.requests)) == ("failed", 2)
    assert run.usage["output"] == 7


def test_a_paused_answer_can_be_aborted_while_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = iter([Reply(answer_of(SEARCH, reason="pause_turn")), Reply(silence="before")])
    with WireServer(lambda _: next(replies)) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        cancel = Cancellation()
        threading.Thread(target=lambda: (server.waiting.wait(10), cancel.cancel("test"))).start()
        assert not any(isinstance(part, Finish) for part in AnthropicProvider().stream(HELLO, cancel))
        assert server.hung_up.wait(1)


@pytest.mark.parametrize("key", [{}, {"signature": ""}])
def test_servers_that_sign_no_thinking_get_it_back(monkeypatch: pytest.MonkeyPatch, key: dict[str, str]) -> None:
    @tool
    def weather(city: str) -> str:
        """Weather."""
        return f"sunny in {city}"

    thought = {"type": "thinking", "thinking": "I need the weather.", **key}
    call = {"type": "tool_use", "id": "call_0", "name": "weather", "input": {"city": "Rome"}}

    def answer(request: Any) -> Reply:
        if len(request.body["messages"]) == 1:
            return Reply(answer_of(thought, call, reason="tool_use"))
        if request.body["messages"][1]["content"] != [thought, call]:
            message = "The `content[].thinking` in the thinking mode must be passed back to the API."
            return Reply([error_body(message)], 400, "application/json")
        return Reply(answer_of(text("Sunny.")))

    with WireServer(answer) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        run = AgentKit(agents=[Agent("a", "anthropic:MiniMax-M3", tools=[weather])]).run("a", "Hi")
    assert (run.status, run.messages[-1]["content"]) == ("completed", [text("Sunny.")])


def test_the_provider_is_found_by_its_name() -> None:
    provider, model = resolve("anthropic:claude-test")
    assert (type(provider), provider.name, provider.api, model) == (
        AnthropicProvider,
        "anthropic",
        "anthropic-messages",
        "claude-test",
    )
