"""The Ollama adapter against a local server that speaks its wire."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.core.cancellation import Cancellation
from agentkit.core.messages import UserMessage, text_of
from agentkit.providers import resolve
from agentkit.providers.ollama import OllamaProvider
from agentkit.providers.protocol import ModelRequest, Provider
from agentkit.testing.provider_contract import ProviderContract, build
from agentkit.testing.wire_server import Reply, WireServer
from tests.misbehaving import ErrorAsJsonContract, TextStreamContract
from tests.ollama_server import error_body, lines
from tests.vendor_bounds import VendorBoundsContract

HELLO = ModelRequest("llama-test", "", [UserMessage("hello", 0)])


class TestOllamaProvider(ProviderContract, TextStreamContract, ErrorAsJsonContract, VendorBoundsContract):
    no_content = (b"\n", b"  \r\n", b" " * 20, b'{"message": {"role": "assistant", "content": ""}, "done": false}\n')
    content_type = "application/x-ndjson"
    counts = (14, 0, 7)
    """Ollama does not count cached tokens apart from new ones."""
    arguments_in_pieces = False

    def provider(self) -> Provider:
        return OllamaProvider()

    def point_at(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OLLAMA_HOST", url)
        monkeypatch.setenv("OLLAMA_API_KEY", key)

    def encode(self, turn: Any) -> list[bytes]:
        return lines(turn)

    def error_body(self, message: str) -> bytes:
        return error_body(message)


def test_a_local_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    with WireServer(lambda _: Reply(lines("hi"), content_type="application/x-ndjson")) as server:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{server.port}")
        provider, model = resolve("ollama:llama3:8b")
        assert text_of(build(provider.stream(HELLO, Cancellation()))) == "hi"
    assert model == "llama3:8b"
    assert server.requests[0].path == "/api/chat"
    assert "authorization" not in server.requests[0].headers


def test_a_server_behind_a_path_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer(lambda _: Reply(lines("hi"), content_type="application/x-ndjson")) as server:
        monkeypatch.setenv("OLLAMA_HOST", f"{server.url}/models/")
        monkeypatch.setenv("OLLAMA_API_KEY", "key-1")
        build(OllamaProvider().stream(HELLO, Cancellation()))
    assert server.requests[0].path == "/models/api/chat"
    assert server.requests[0].headers["authorization"] == "Bearer key-1"
