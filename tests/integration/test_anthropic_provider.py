"""The Anthropic adapter against a local server that speaks its wire."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage, text_of
from agentkit.errors import ProviderError
from agentkit.providers import resolve
from agentkit.providers.anthropic import AnthropicProvider
from agentkit.providers.protocol import ModelRequest, Provider
from tests.anthropic_server import error_body, frame, frames
from tests.misbehaving import MisbehavingServerContract
from tests.providers_contract import ProviderContract, build
from tests.vendor_bounds import VendorBoundsContract
from tests.wire_server import Reply, WireServer

HELLO = ModelRequest("claude-test", "", [UserMessage("hello", 0)])


class TestAnthropicProvider(ProviderContract, MisbehavingServerContract, VendorBoundsContract):
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


def test_the_provider_is_found_by_its_name() -> None:
    provider, model = resolve("anthropic:claude-test")
    assert (type(provider), provider.name, provider.api, model) == (
        AnthropicProvider,
        "anthropic",
        "anthropic-messages",
        "claude-test",
    )
